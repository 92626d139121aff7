"""What is said of a request's field that holds a value which is not allowed."""


class ParameterError(ValueError):
    """A request field holds a value that is not allowed; ``field`` names it, ``message`` says what is wrong."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.field = name
        self.message = message


def check_text(name: str, text: str) -> None:
    """Refuse a string that cannot be sent as UTF-8.

    Raises:
        ParameterError: it holds half a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"character {error.start} is half a surrogate pair, not a character"
        raise ParameterError(name, message) from None
