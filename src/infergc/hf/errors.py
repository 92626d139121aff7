"""What goes wrong with a model directory."""


class ModelError(ValueError):
    """A model directory cannot be used; the message says which file or field is wrong and what is allowed.

    It begins with ``model``, the setting that named the directory.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"model: {message}")


class UnsupportedModelError(ModelError):
    """The model is sound but of a kind that is not implemented; the message lists what is."""
