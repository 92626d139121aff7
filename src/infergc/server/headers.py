"""Headers of refusals: when to come again, and that the connection is closed."""

RETRY_AFTER = "retry-after"
CLOSE = {"connection": "close"}


def retry_after(seconds: int = 1) -> dict[str, str]:
    """The header that says to come again in so many seconds."""
    return {RETRY_AFTER: str(seconds)}
