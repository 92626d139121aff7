"""Where evacuated pages go: the free runs of superblocks that stay in use, best fit first."""

from bisect import bisect_left, insort

from infergc.heap.space import Extent, runs_in


class Holes:
    """Free runs, by length; of equal ones those of the superblock that was added first, then the lowest.

    Attributes:
        pages: how many are free in all of them.
    """

    def __init__(self) -> None:
        self.pages = 0
        self._runs: list[tuple[int, int, int]] = []  # (pages, rank of the superblock, first page)
        self._added = 0

    def add(self, first: int, mask: int) -> None:
        """Offer the free pages of a superblock: its first page and its mask. Cost: O(runs log runs)."""
        for at, length in runs_in(mask):
            insort(self._runs, (length, self._added, first + at))
            self.pages += length
        self._added += 1

    def drop(self, first: int, end: int) -> None:
        """Offer pages first … end - 1 no longer. Cost: O(runs)."""
        gone = [run for run in self._runs if first <= run[2] < end]
        if gone:
            self.pages -= sum(pages for pages, _, _ in gone)
            self._runs = [run for run in self._runs if not first <= run[2] < end]

    def take(self, pages: int) -> list[Extent]:
        """Choose so many pages, at most ``self.pages``: the smallest run that holds them, else the longest first.

        Cost: O(extents returned × log runs) compares, and a memmove for each.
        """
        taken: list[Extent] = []
        self.pages -= pages
        while pages:
            at = min(bisect_left(self._runs, (pages, 0, 0)), len(self._runs) - 1)
            length, rank, first = self._runs.pop(at)
            count = min(pages, length)
            taken.append((first, count))
            pages -= count
            if count < length:
                insort(self._runs, (length - count, rank, first + count))
        return taken
