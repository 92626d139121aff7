"""Block tables of one layer group: one row of extents per slot, as half-open ranges of logical pages.

A row holds logical pages [skipped, skipped + held): what lies before was released at the head (sliding
window), what lies after is not granted yet. Whoever appends frees: pages leave a row only as the extents
that ``drop_head``, ``drop_tail`` and ``replace`` return.
"""

import numpy as np
from numpy.typing import NDArray

from infergc.heap.moves import PageTable
from infergc.heap.pages import page_numbers, runs_of
from infergc.heap.space import Extent, append_run

Slots = NDArray[np.integer]
_FIRST_WIDTH = 8


class BlockTables:
    """Extents of all slots in arrays ``first`` and ``pages`` [slots, E]; E grows by doubling.

    ``pages`` is 0 behind a row's extents, as a page table wants it.
    """

    def __init__(self, slots: int) -> None:
        self.first: NDArray[np.int32] = np.zeros((slots, _FIRST_WIDTH), np.int32)
        self.pages: NDArray[np.int32] = np.zeros((slots, _FIRST_WIDTH), np.int32)
        self.extents: NDArray[np.int32] = np.zeros(slots, np.int32)
        self.skipped: NDArray[np.int32] = np.zeros(slots, np.int32)
        self.held: NDArray[np.int32] = np.zeros(slots, np.int32)
        # Single entries go through views of the same memory: a third of the cost of numpy's own.
        self._extents, self._skipped, self._held = self.extents.data, self.skipped.data, self.held.data
        self._first, self._pages = self.first.data, self.pages.data

    def row(self, slot: int) -> list[Extent]:
        """The slot's extents in order. Cost: O(extents)."""
        count = self._extents[slot]
        if count == 1:
            return [(self._first[slot, 0], self._pages[slot, 0])]
        return list(zip(self.first[slot, :count].tolist(), self.pages[slot, :count].tolist(), strict=True))

    def span(self, slot: int) -> tuple[int, int]:
        """Logical pages released at the head, and those held after them. Cost: O(1)."""
        return self._skipped[slot], self._held[slot]

    def last_page(self, slot: int) -> int:
        """The last physical page, -1 if the row is empty. Cost: O(1)."""
        last = self._extents[slot] - 1
        return self._first[slot, last] + self._pages[slot, last] - 1 if last >= 0 else -1

    def slice(self, slot: int, low: int, high: int) -> list[Extent]:
        """Extents of logical pages low … high - 1, all of them held. Cost: O(extents)."""
        at = self._skipped[slot]
        if low <= at and high >= at + self._held[slot]:
            return self.row(slot)
        found: list[Extent] = []
        for first, length in self.row(slot):
            start, end = max(low, at), min(high, at + length)
            if start < end:
                found.append((first + start - at, end - start))
            at += length
        return found

    def append(self, slot: int, extents: list[Extent]) -> None:
        """Add pages at the end; an extent that continues the last one is merged. Cost: O(extents added)."""
        count, end, held = self._extents[slot], self.last_page(slot) + 1, self._held[slot]
        for first, length in extents:
            if first == end and count:
                self._pages[slot, count - 1] += length
            else:
                self._put(slot, count, first, length)
                count += 1
            end = first + length
            held += length
        self._extents[slot], self._held[slot] = count, held

    def lengthen(self, slot: int) -> None:
        """Add the page that follows the last one. Cost: O(1)."""
        self._pages[slot, self._extents[slot] - 1] += 1
        self._held[slot] += 1

    def drop_tail(self, slot: int, keep: int) -> list[Extent]:
        """Remove logical pages ≥ ``keep`` and return their extents. Cost: O(extents removed)."""
        removed: list[Extent] = []
        excess = int(self.skipped[slot] + self.held[slot]) - keep
        while excess > 0:
            last = int(self.extents[slot]) - 1
            length = min(excess, int(self.pages[slot, last]))
            self.pages[slot, last] -= length
            removed.append((int(self.first[slot, last] + self.pages[slot, last]), length))
            if not self.pages[slot, last]:
                self.extents[slot] = last
            self.held[slot] -= length
            excess -= length
        return removed[::-1]

    def drop_head(self, slot: int, upto: int) -> list[Extent]:
        """Remove logical pages < ``upto`` and return their extents. Cost: O(extents)."""
        count = min(upto - int(self.skipped[slot]), int(self.held[slot]))
        if count <= 0:
            return []
        low = int(self.skipped[slot])
        removed = self.slice(slot, low, low + count)
        kept = self.slice(slot, low + count, low + int(self.held[slot]))
        self._rewrite(slot, low + count, kept)
        return removed

    def replace(self, slot: int, low: int, pages: NDArray[np.int32]) -> list[Extent]:
        """Put these physical pages at logical pages low, low + 1, … and return the ones they replace.

        Cost: O(pages held) array work.
        """
        skipped = int(self.skipped[slot])
        numbers = page_numbers(self.row(slot))
        at = slice(low - skipped, low - skipped + len(pages))
        removed = runs_of(numbers[at])
        numbers[at] = pages
        self._rewrite(slot, skipped, runs_of(numbers))
        return removed

    def rows_held(self) -> tuple[Slots, NDArray[np.int32], NDArray[np.int32]]:
        """Slots with extents, and of each its extents' first pages and the pages after their last ones.

        Both are copies, [slots, longest row]; where a row is shorter, the two are equal.
        Cost: O(slots) and O(rows held × longest row) array work.
        """
        slots = np.flatnonzero(self.extents)
        width = int(self.extents.max(initial=0))
        first = self.first[slots, :width]
        return slots, first, first + self.pages[slots, :width]

    def relocate(self, slot: int, low: int, to: NDArray[np.int32]) -> None:
        """Where the row has page ``low + at``, it has page ``to[at]`` from now on.

        Cost: O(extents), and O(pages) array work for those extents that name such a page.
        """
        extents: list[Extent] = []
        for first, length in self.row(slot):
            if first < low + len(to) and first + length > low:
                for start, pages in _relocated(first, length, low, to):
                    append_run(extents, start, pages)
            else:
                append_run(extents, first, length)
        self._put_all(slot, extents)

    def start_at(self, slot: int, skipped: int) -> None:
        """Let an empty row begin at a logical page > 0: a prefix hit under a sliding window. Cost: O(1)."""
        self.skipped[slot] = skipped

    def copy(self, source: int, target: int) -> list[Extent]:
        """Make the empty row ``target`` equal to ``source``; the caller retains the pages returned."""
        row = self.row(source)
        self._rewrite(target, int(self.skipped[source]), row)
        return row

    def gather(self, slots: Slots) -> PageTable:
        """Copy the rows of these slots for a step plan. Cost: O(rows × longest row) array work."""
        width = int(self.extents[slots].max(initial=1))
        return PageTable(self.first[slots, :width], self.pages[slots, :width], self.skipped[slots])

    def clear(self, slot: int) -> list[Extent]:
        """Empty the row and return its extents. Cost: O(extents)."""
        row = self.row(slot)
        self._rewrite(slot, 0, [])
        return row

    def _rewrite(self, slot: int, skipped: int, extents: list[Extent]) -> None:
        self.pages[slot, : self.extents[slot]] = 0
        self._extents[slot] = self._held[slot] = 0
        self._skipped[slot] = skipped
        if extents:
            self.append(slot, extents)

    def _put_all(self, slot: int, extents: list[Extent]) -> None:
        """Let the row have these extents for others of as many pages. Cost: O(extents)."""
        while len(extents) > self.first.shape[1]:
            self._widen()
        count = len(extents)
        self.pages[slot, count : self._extents[slot]] = 0
        columns = np.array(extents, np.int32)
        self.first[slot, :count], self.pages[slot, :count] = columns[:, 0], columns[:, 1]
        self._extents[slot] = count

    def _put(self, slot: int, at: int, first: int, length: int) -> None:
        if at == self.first.shape[1]:
            self._widen()
        self._first[slot, at] = first
        self._pages[slot, at] = length

    def _widen(self) -> None:
        width = self.first.shape[1]
        self.first = np.pad(self.first, ((0, 0), (0, width)))
        self.pages = np.pad(self.pages, ((0, 0), (0, width)))
        self._first, self._pages = self.first.data, self.pages.data


def _relocated(first: int, pages: int, low: int, to: NDArray[np.int32]) -> list[Extent]:
    """An extent after pages low … low + len(to) - 1 moved to ``to``."""
    numbers = np.arange(first, first + pages, dtype=np.int32)
    start, end = max(first, low), min(first + pages, low + len(to))
    numbers[start - first : end - first] = to[start - low : end - low]
    return runs_of(numbers)
