"""Python's own garbage collector, kept off what an engine holds for good."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Leave what exists now out of collections until the block ends: libraries, a model, the engine.

    A full collection looks at every object that Python tracks, and stops the engine while it does.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
