"""Pages of small heaps are let go of by hand."""

import numpy as np

from infergc.heap.heap import Heap


def reclaim(heap: Heap, pages: int, at_once: int = 1) -> None:
    """Have the tree let go of so many pages, and the step made that copies them."""
    for _ in range(0, pages, at_once):
        assert heap.reclaimer._reclaim(at_once, heap.planning, "room") == at_once
    heap.begin_step(*(np.empty(0, np.int32) for _ in range(3)))
    heap.take_moves()
    heap.complete(heap.planning - 1)
