"""What can go wrong inside the heap."""


class HeapCorruption(RuntimeError):  # noqa: N818 - it names a state, not a caller's error
    """A law is broken: a bug in the heap or in its caller. The message begins with the law."""
