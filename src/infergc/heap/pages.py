"""Pages of one layer group as columns of arrays: counts, seals, and the free space behind them."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from infergc.heap.groups import GroupSpec
from infergc.heap.space import Extent, FreeSpace


class Pages:
    """Counts who holds each page and frees it when nobody does.

    Columns, one entry a page: ``count`` references of heap objects, the prefix tree among them;
    ``sealed`` the prefix tree holds it, so it is immutable; ``lossy`` its KV is not what an exact
    computation gives (law 8); ``generation`` of a sealed page, 0 young to 2 tenured; ``born`` the step in which it was
    sealed; ``taken`` by whom and where the last reference was taken (``heap.provenance``).
    ``cached`` counts the pages that only the tree holds: sealed with count 1.
    """

    def __init__(self, spec: GroupSpec, page_tokens: int) -> None:
        self.spec = spec
        self.space = FreeSpace(spec.capacity, page_tokens)
        self.count: NDArray[np.int32] = np.zeros(spec.capacity, np.int32)
        self.sealed: NDArray[np.bool_] = np.zeros(spec.capacity, np.bool_)
        self.lossy: NDArray[np.bool_] = np.zeros(spec.capacity, np.bool_)
        self.generation: NDArray[np.int8] = np.zeros(spec.capacity, np.int8)
        self.born: NDArray[np.int32] = np.zeros(spec.capacity, np.int32)
        self.taken: NDArray[np.int64] = np.zeros(spec.capacity, np.int64)
        self.cached = 0
        # For single entries, cheaper than numpy's.
        self._count_at, self._lossy_at, self._taken_at = self.count.data, self.lossy.data, self.taken.data

    @property
    def grantable(self) -> int:
        """Pages that a reservation may have: free ones and those reclaimed from the cache. Cost: O(1)."""
        return self.space.free + self.cached

    def allocate(self, pages: int, after: int, expect: int, *, lossy: bool, by: int = 0) -> list[Extent]:
        """Take pages with a count of 1. ``by`` is for ``taken``; other arguments and cost as in FreeSpace.take."""
        extents = self.space.take(pages, after, expect)
        for first, length in extents:
            self.count[first : first + length] = 1
            self.lossy[first : first + length] = lossy
            self.taken[first : first + length] = by
        return extents

    def allocate_one(self, page: int, *, lossy: bool, by: int = 0) -> bool:
        """Take this page, with a count of 1, if it is there and free. Cost: O(1)."""
        if not self.space.take_one(page):
            return False
        self._count_at[page], self._lossy_at[page], self._taken_at[page] = 1, lossy, by
        return True

    def retain(self, extents: list[Extent], by: int = 0) -> None:
        """Add a reference to every page; no page stands in two extents. ``by`` is for ``taken``.

        Cost: O(extents, and cuts of them where the count changes) and O(pages) array work.
        """
        for first, length in extents:
            self.taken[first : first + length] = by
        for first, counts in self._alike(extents):
            count = counts.item(0)
            counts.fill(count + 1)
            if count == 1:
                self.cached -= self._sealed(first, len(counts))

    def release(self, extents: list[Extent]) -> None:
        """Drop a reference to every page and free those that have none left. Cost: as retain."""
        for first, counts in self._alike(extents):
            count = counts.item(0)
            counts.fill(count - 1)
            if count == 1:
                self.space.give(first, len(counts))
            elif count == 2:
                self.cached += self._sealed(first, len(counts))

    def seal(self, extents: list[Extent], generation: int = 0, step: int = 0) -> None:
        """The prefix tree takes a reference: the pages are immutable from now on. Cost: as retain."""
        for first, counts in self._alike(extents):
            counts.fill(counts.item(0) + 1)
            self.sealed[first : first + len(counts)] = True
            self.generation[first : first + len(counts)] = generation
            self.born[first : first + len(counts)] = step

    def unseal(self, extents: list[Extent]) -> None:
        """The prefix tree lets go; pages nobody else holds are freed. Cost: as retain."""
        for first, counts in self._alike(extents):
            count = counts.item(0)
            counts.fill(count - 1)
            self.sealed[first : first + len(counts)] = False
            if count == 1:
                self.cached -= len(counts)
                self.space.give(first, len(counts))

    def restore(self, first: int, counts: NDArray[np.int32]) -> None:
        """Put counts right that were too low: what lies on the free masks is taken from them. Cost: O(pages)."""
        at = slice(first, first + len(counts))
        self.cached -= int(np.count_nonzero(self.sealed[at] & (self.count[at] == 1)))
        for page in range(first, first + len(counts)):
            self.space.take_one(page)
        self.count[at] = counts
        self.cached += int(np.count_nonzero(self.sealed[at] & (counts == 1)))

    def move(self, source: int, target: int, pages: int) -> None:
        """All that is known of pages ``source`` … goes over to pages ``target`` …, just taken from ``space``.

        The sources keep one reference, which the caller owns: nobody else's. Cost: O(pages) array work.
        """
        old, new = slice(source, source + pages), slice(target, target + pages)
        for column in (self.count, self.sealed, self.lossy, self.generation, self.born, self.taken):
            column[new] = column[old]
        self.count[old] = 1
        self.sealed[old] = False

    def _alike(self, extents: list[Extent]) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Cut extents into runs of pages with equal counts: the first page, and the run's part of ``count``.

        Nearly always an extent is one such run. To see that by comparing bytes, and to write one number, takes a
        quarter of the time of array arithmetic.
        """
        for first, pages in extents:
            counts = self.count[first : first + pages]
            raw = counts.tobytes()
            if raw[_ENTRY:] == raw[:-_ENTRY]:
                yield first, counts
            else:
                cuts = [0, *(np.flatnonzero(counts[1:] != counts[:-1]) + 1).tolist(), pages]
                for low, high in pairwise(cuts):
                    yield first + low, counts[low:high]

    def _sealed(self, first: int, pages: int) -> int:
        return self.sealed[first : first + pages].tobytes().count(1)


_NONE: NDArray[np.int32] = np.empty(0, np.int32)
_ENTRY = np.dtype(np.int32).itemsize


def runs_of(pages: NDArray[np.integer]) -> list[Extent]:
    """Cut a list of page numbers, in order, into extents. Cost: O(pages) array work."""
    if not len(pages):
        return []
    first = pages.item(0)
    if pages.tobytes() == np.arange(first, first + len(pages), dtype=pages.dtype).tobytes():
        return [(first, len(pages))]  # the common case, at a third of the cost
    cuts = (np.flatnonzero(pages[1:] != pages[:-1] + 1) + 1).tolist()
    starts = [0, *cuts]
    return [(int(pages[low]), high - low) for low, high in zip(starts, (*cuts, len(pages)), strict=True)]


def page_numbers(extents: list[Extent]) -> NDArray[np.int32]:
    """The page numbers of extents, in order. Cost: O(pages) array work."""
    if not extents:
        return _NONE
    if len(extents) == 1:
        first, length = extents[0]
        return np.arange(first, first + length, dtype=np.int32)
    return np.concatenate([np.arange(first, first + length, dtype=np.int32) for first, length in extents])
