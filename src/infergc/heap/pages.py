"""Pages of one layer group as columns of arrays: counts, seals, and the free space behind them."""

import numpy as np
from numpy.typing import NDArray

from infergc.heap.groups import GroupSpec
from infergc.heap.space import Extent, FreeSpace


class Pages:
    """Counts who holds each page and frees it when nobody does.

    Columns, one entry a page: ``count`` references of heap objects, the prefix tree among them;
    ``sealed`` the prefix tree holds it, so it is immutable; ``lossy`` its KV is not what an exact
    computation gives (law 8).
    ``cached`` counts the pages that only the tree holds: sealed with count 1.
    """

    def __init__(self, spec: GroupSpec, page_tokens: int) -> None:
        self.spec = spec
        self.space = FreeSpace(spec.capacity, page_tokens)
        self.count: NDArray[np.int32] = np.zeros(spec.capacity, np.int32)
        self.sealed: NDArray[np.bool_] = np.zeros(spec.capacity, np.bool_)
        self.lossy: NDArray[np.bool_] = np.zeros(spec.capacity, np.bool_)
        self.cached = 0

    @property
    def grantable(self) -> int:
        """Pages that a reservation may have: free ones and those reclaimed from the cache. Cost: O(1)."""
        return self.space.free + self.cached

    def allocate(self, pages: int, after: int, expect: int, *, lossy: bool) -> list[Extent]:
        """Take pages with a count of 1. Arguments and cost as in FreeSpace.take."""
        extents = self.space.take(pages, after, expect)
        for first, length in extents:
            self.count[first : first + length] = 1
            self.lossy[first : first + length] = lossy
        return extents

    def retain(self, extents: list[Extent]) -> None:
        """Add a reference to every page. Cost: O(extents) calls, O(pages) array work."""
        for first, length in extents:
            run = slice(first, first + length)
            self.cached -= int(np.count_nonzero(self.sealed[run] & (self.count[run] == 1)))
            self.count[run] += 1

    def release(self, extents: list[Extent]) -> None:
        """Drop a reference to every page and free those that have none left. Cost: as retain."""
        for first, length in extents:
            run = slice(first, first + length)
            counts = self.count[run]
            counts -= 1
            self.cached += int(np.count_nonzero(self.sealed[run] & (counts == 1)))
            self._free(first, counts == 0)

    def seal(self, extents: list[Extent]) -> None:
        """The prefix tree takes a reference: the pages are immutable from now on. Cost: as retain."""
        for first, length in extents:
            self.sealed[first : first + length] = True
            self.count[first : first + length] += 1

    def unseal(self, extents: list[Extent]) -> None:
        """The prefix tree lets go; pages nobody else holds are freed. Cost: as retain."""
        for first, length in extents:
            run = slice(first, first + length)
            counts = self.count[run]
            self.cached -= int(np.count_nonzero(counts == 1))
            self.sealed[run] = False
            counts -= 1
            self._free(first, counts == 0)

    def _free(self, first: int, gone: NDArray[np.bool_]) -> None:
        if gone.all():
            self.space.give(first, len(gone))
        elif gone.any():
            for start, length in runs_of(first + np.flatnonzero(gone)):
                self.space.give(start, length)


def runs_of(pages: NDArray[np.integer]) -> list[Extent]:
    """Cut a list of page numbers, in order, into extents. Cost: O(pages) array work."""
    if not len(pages):
        return []
    cuts = np.flatnonzero(np.diff(pages) != 1) + 1
    starts = np.concatenate(([0], cuts))
    lengths = np.diff(np.concatenate((starts, [len(pages)])))
    return list(zip(pages[starts].tolist(), lengths.tolist(), strict=True))


def page_numbers(extents: list[Extent]) -> NDArray[np.int32]:
    """The page numbers of extents, in order. Cost: O(pages) array work."""
    if not extents:
        return np.empty(0, np.int32)
    return np.concatenate([np.arange(first, first + length, dtype=np.int32) for first, length in extents])
