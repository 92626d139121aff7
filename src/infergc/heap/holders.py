"""Who holds pages: how many references a page should have, and how they are rewritten when it moves.

This is the one place that enumerates holders: rows of the block tables, parked sequences, work in flight and the prefix
tree. What is not found here does not move, and counts as leaked.
"""

from dataclasses import dataclass

import numpy as np

from infergc.heap.moves import I32
from infergc.heap.nodes import Node
from infergc.heap.objects import Sequence
from infergc.heap.pages import page_numbers, runs_of
from infergc.heap.space import Extent
from infergc.heap.state import HeapState
from infergc.heap.tables import Slots


@dataclass(frozen=True, slots=True)
class Holders:
    """What holds pages ``low`` … of one superblock and can be told that they moved.

    Attributes:
        low: the superblock's first page.
        slots: rows of the group's block tables that name its pages.
        parked: sequences without a row that hold its pages.
        nodes: prefix-tree nodes that do.
        references: references to its pages that these hold.
        entries: extents and tree pages that a move rewrites.
    """

    low: int
    slots: list[int]
    parked: list[Sequence]
    nodes: list[Node]
    references: int
    entries: int


class HolderScan:
    """Finds the holders of superblocks of a group, from one look at its block tables when it is first asked.

    The look stays true while pages move from superblocks that were asked for to others that never will be.
    Cost: O(slots) and O(rows held × longest row) array work, once, as a step's page tables take.
    """

    def __init__(self, heap: HeapState, group: int) -> None:
        self._heap, self._group = heap, group
        self._parked: list[Sequence] = []
        self._rows: tuple[Slots, I32, I32] | None = None  # see BlockTables.rows_held

    def holders(self, low: int, high: int) -> Holders:
        """Who holds pages low … high - 1. Cost: O(rows held × longest row) array work, O(nodes found)."""
        slots, pages = self._named(low, high)
        parked = [(one, inside) for one in self._parked if (inside := _inside(one.parked[self._group], low, high))]
        sealed = (np.flatnonzero(self._heap.groups[self._group].sealed[low:high]) + low).astype(np.int32)
        return Holders(
            low,
            sorted(set(slots.tolist())),
            [one for one, _ in parked],
            self._heap.tree.index.nodes(self._group, sealed),
            int(pages.sum()) + sum(inside for _, inside in parked) + len(sealed),
            len(slots) + len(parked) + len(sealed),
        )

    def _named(self, low: int, high: int) -> tuple[Slots, I32]:
        """For each extent in a table that names such pages: the slot, and how many it names."""
        if self._rows is None:
            self._parked, self._rows = self._heap.parked(), self._heap.tables[self._group].rows_held()
        slots, first, end = self._rows
        near = np.flatnonzero((first < high) & (end > low))
        pages = np.minimum(end.flat[near], high) - np.maximum(first.flat[near], low)
        some = pages > 0  # which is not so of what is left behind a row's extents
        return slots[near[some] // first.shape[1]], pages[some]


def references_held(heap: HeapState, group: int, low: int, high: int) -> I32:
    """References that sequences and work in flight hold to pages low … high - 1; the prefix tree's are not among them.

    Cost: O(table rows x extents + parked extents + extents in flight + pages) array work.
    """
    table = heap.tables[group]
    width = int(table.extents.max(initial=0))
    first, pages = table.first[:, :width].ravel(), table.pages[:, :width].ravel()
    loose = _loose_extents(heap, group)
    if loose:
        first, pages = (
            np.append(column, more) for column, more in zip((first, pages), zip(*loose, strict=True), strict=True)
        )
    end = np.minimum(first + pages, high)
    first = np.maximum(first, low)
    inside = first < end  # which no extent of no pages is
    begun = np.bincount(first[inside] - low, minlength=high - low + 1)
    ended = np.bincount(end[inside] - low, minlength=high - low + 1)
    return (begun - ended)[:-1].cumsum().astype(np.int32)


def rewrite(heap: HeapState, group: int, holders: Holders, to: I32) -> None:
    """Page ``low + at`` is page ``to[at]`` from now on, for all who hold it; -1 where nobody does.

    Cost: O(pages of the rows and edges that name them) array work, O(rows + nodes) calls.
    """
    for slot in holders.slots:
        heap.tables[group].relocate(slot, holders.low, to)
    for sequence in holders.parked:
        numbers = page_numbers(sequence.parked[group])
        at = np.flatnonzero((numbers >= holders.low) & (numbers < holders.low + len(to)))
        numbers[at] = to[numbers[at] - holders.low]
        sequence.parked[group][:] = runs_of(numbers)
    for node in holders.nodes:
        column = node.pages[group].view()
        at = np.flatnonzero((column >= holders.low) & (column < holders.low + len(to)))
        column[at] = to[column[at] - holders.low]
        heap.tree.index.moved(group, node, column[at])


def _loose_extents(heap: HeapState, group: int) -> list[Extent]:
    """What parked sequences and work in flight hold, which stands in no table."""
    parked = [extent for one in heap.parked() for extent in one.parked[group]]
    return parked + heap.in_flight(group)


def _inside(extents: list[Extent], low: int, high: int) -> int:
    """How many pages of these extents lie in low … high - 1."""
    return sum(max(0, min(first + pages, high) - max(first, low)) for first, pages in extents)
