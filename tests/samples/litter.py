"""What Python's collector does while a test runs, and what makes it work."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OLDEST = 2


@contextmanager
def watched_collections(note: Callable[[int], None]) -> Iterator[None]:
    """``note`` is called with the generation of each collection as it begins."""

    def callback(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            note(info["generation"])

    gc.callbacks.append(callback)
    try:
        yield
    finally:
        gc.callbacks.remove(callback)


def litter(objects: int) -> list[list[int]]:
    """Objects that Python tracks and that live on: they bring on collections."""
    return [[number] for number in range(objects)]
