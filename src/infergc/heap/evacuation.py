"""One pass of compaction over a layer group: sparse superblocks are emptied into the gaps of fuller ones.

W is pages in a superblock.
"""

import numpy as np
from numpy.typing import NDArray

from infergc.heap.holders import Holders, HolderScan, rewrite
from infergc.heap.holes import Holes
from infergc.heap.moves import Move
from infergc.heap.pages import runs_of
from infergc.heap.space import runs_in
from infergc.heap.state import HeapState

_CHOICE = 16  # superblocks among whose gaps a run looks for the one that fits it best


class Evacuation:
    """Takes victims from the sparse end of a ranking and room from its full end, until these meet.

    So every superblock emptied is one less in use: room is never taken from a superblock that is wholly free, nor
    from one that was emptied or is about to be, since nothing stands in the ranking of which a page is in transit.

    Args:
        heap: whose pages move.
        group: which of its layer groups.
        sparse: share of pages in use, 0 to 1, up to which a superblock may be emptied.

    Attributes:
        emptied, moved: superblocks and pages, so far.
    Cost of making one: O(capacity) array work.
    """

    def __init__(self, heap: HeapState, group: int, sparse: float) -> None:
        self.emptied = self.moved = 0
        self._heap, self._group = heap, group
        self._pages, self._space = heap.groups[group], heap.groups[group].space
        self._ranked, missing = self._rank()
        self._victims = int(np.searchsorted(missing, int(sparse * self._space.width), "right"))
        self._front = len(self._ranked)  # superblocks from here on offer their gaps
        self._holes = Holes()

    def run(self, budget: int) -> int:
        """Empty superblocks, sparsest first, within a budget; returns the units spent.

        A unit is a page moved, an extent or a tree page rewritten, or a look at who holds a superblock. One that
        would cost more than is left stays as it is, as does one with a reference that nobody here can rewrite: a
        pin, a leak.
        """
        spent, width = 0, self._space.width
        scan: HolderScan | None = None
        for at in range(self._victims):
            block = self._ranked[at]
            need = (self._space.brims[block] & ~self._space.masks[block]).bit_count()
            if spent + 1 + need > budget or not self._find_room(need, at):
                break
            scan = scan or HolderScan(self._heap, self._group)
            holders = scan.holders(block * width, (block + 1) * width)
            cost = 1 + need + holders.entries
            if spent + cost > budget or not self._all_known(holders):
                spent += 1
                continue
            spent += cost
            self._empty(block, holders)
        return spent

    def _rank(self) -> tuple[list[int], NDArray[np.int64]]:
        """Superblocks that are partly in use, sparsest first, and how many of each one's W pages are not free."""
        space, width, blocks = self._space, self._space.width, len(self._space.masks)
        free = np.zeros(blocks * width, np.bool_)
        np.equal(self._pages.count, 0, out=free[: space.capacity])
        missing = width - np.count_nonzero(free.reshape(blocks, width), axis=1)
        size = np.full(blocks, width)
        size[-1] = space.brims[-1].bit_count()
        partly = (missing < width) & (missing > width - size)
        partly[self._in_transit()] = False
        found = np.flatnonzero(partly)
        found = found[np.argsort(missing[found], kind="stable")]
        return found.tolist(), missing[found]

    def _in_transit(self) -> list[int]:
        """Superblocks of which work in flight holds a page."""
        width = self._space.width
        return [
            block
            for hold in self._heap.held
            for group, (first, pages) in hold.extents()
            if group == self._group
            for block in range(first // width, (first + pages - 1) // width + 1)
        ]

    def _find_room(self, need: int, victim: int) -> bool:
        """Offer the gaps of the fullest superblocks until they hold so many pages; False if they never do.

        A few more than need be are offered, that a run may find a gap of its length; but no sparse one.
        """
        while self._front > victim + 1 and (self._holes.pages < need or self._may_choose()):
            self._front -= 1
            block = self._ranked[self._front]
            self._holes.add(block * self._space.width, self._space.masks[block])
        return self._front > victim and self._holes.pages >= need

    def _may_choose(self) -> bool:
        return self._front > max(self._victims, len(self._ranked) - _CHOICE)

    def _all_known(self, holders: Holders) -> bool:
        """Whether every reference to the superblock's pages is held by someone who can be told."""
        counted = self._pages.count[holders.low : holders.low + self._space.width].sum()
        return int(counted) == holders.references

    def _empty(self, block: int, holders: Holders) -> None:
        """Move a superblock's pages, longest runs first; what they were stays in transit until the copies are made."""
        low, heap = holders.low, self._heap
        to = np.full(self._space.width, -1, np.int32)
        used = runs_in(self._space.brims[block] & ~self._space.masks[block])
        for offset, length in sorted(used, key=lambda run: -run[1]):
            at = offset
            for first, count in self._holes.take(length):
                self._space.take_run(first, count)
                to[at : at + count] = np.arange(first, first + count)
                heap.moves += [
                    Move("copy", self._group, low + at + page, first + page, heap.page_tokens) for page in range(count)
                ]
                at += count
        moved = np.flatnonzero(to >= 0).astype(np.int32)
        self._pages.move(moved + np.int32(low), to[moved])
        rewrite(heap, self._group, holders, to)
        heap.hold(heap.planning, self._group, runs_of(moved + np.int32(low)))
        self.emptied += 1
        self.moved += len(moved)
