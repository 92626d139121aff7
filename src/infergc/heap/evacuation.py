"""One pass of compaction over a layer group: sparse superblocks are emptied into the gaps of fuller ones.

W is pages in a superblock.
"""

import numpy as np

from infergc.heap.holders import Holders, HolderScan, rewrite
from infergc.heap.holes import Holes
from infergc.heap.moves import Move
from infergc.heap.pages import runs_of
from infergc.heap.space import runs_in
from infergc.heap.state import HeapState

_CHOICE = 16  # superblocks among whose gaps a run looks for the one that fits it best


class Evacuation:
    """Takes victims from the sparse end of a ranking and room from its full end, until these meet.

    The ranking is made once and worked off over several steps; each superblock is looked at again when its turn comes.
    Every one emptied is one less in use: room is never taken from a superblock that is wholly free, nor from one
    that stands among the victims still to come before it, nor where a page is in transit, as in those just emptied.

    Args:
        heap: whose pages move.
        group: which of its layer groups.
        sparse: share of pages in use, 0 to 1, up to which a superblock may be emptied.

    Attributes:
        emptied, moved: superblocks and pages, so far.
    Cost of making one: O(superblocks).
    """

    def __init__(self, heap: HeapState, group: int, sparse: float) -> None:
        self.emptied = self.moved = 0
        self._heap, self._group = heap, group
        self._pages, self._space = heap.groups[group], heap.groups[group].space
        self._most = int(sparse * self._space.width)  # pages that are not free, in a victim
        self._ranked = self._rank()
        self._next = 0  # in the ranking: the next victim
        self._front = 0  # from here on superblocks offer their gaps, in this step
        self._holes = Holes()
        self._transit: set[int] = set()

    def run(self, budget: int) -> int:
        """Empty superblocks, sparsest first, within a step's budget; returns the units spent.

        A unit is a page moved, an extent or a tree page rewritten, or a look at who holds a superblock. One that
        would cost more than the budget stays as it is, as does one with a reference that nobody here can rewrite: a
        pin, a leak.
        """
        spent, width = 0, self._space.width
        self._front, self._holes, self._transit = len(self._ranked), Holes(), self._in_transit()
        scan: HolderScan | None = None
        while self._next < self._front and spent < budget:
            block = self._ranked[self._next]
            need = self._used(block)
            if not 0 < need <= self._most or block in self._transit:
                self._next += 1
                continue
            if not self._find_room(need):
                self._next = len(self._ranked)
                break
            scan = scan or HolderScan(self._heap, self._group)
            holders = scan.holders(block * width, (block + 1) * width)
            cost = 1 + need + holders.entries
            if spent and spent + cost > budget:
                break  # its turn comes with the next step
            self._next += 1
            movable = cost <= budget and self._all_known(holders)
            spent += cost if movable else 1
            if movable:
                self._empty(block, holders)
        if self._next >= self._front:
            self._next = len(self._ranked)  # the ends have met
        return spent

    @property
    def over(self) -> bool:
        """Whether the ranking is worked off."""
        return self._next >= len(self._ranked)

    def _rank(self) -> list[int]:
        """Superblocks that are partly in use, sparsest first, ties by number."""
        masks, brims = self._space.masks, self._space.brims
        partly = [(-mask.bit_count(), block) for block, mask in enumerate(masks) if mask and mask != brims[block]]
        return [block for _, block in sorted(partly)]

    def _used(self, block: int) -> int:
        return (self._space.brims[block] & ~self._space.masks[block]).bit_count()

    def _in_transit(self) -> set[int]:
        """Superblocks of which work in flight holds a page."""
        width = self._space.width
        return {
            block
            for hold in self._heap.held
            for group, (first, pages) in hold.extents()
            if group == self._group
            for block in range(first // width, (first + pages - 1) // width + 1)
        }

    def _find_room(self, need: int) -> bool:
        """Offer the gaps of the fullest superblocks until they hold so many pages; False if they never do.

        A few more than need be are offered, that a run may find a gap of its length; but no sparse one.
        """
        while self._front > self._next + 1 and (self._holes.pages < need or self._may_choose()):
            self._front -= 1
            block = self._ranked[self._front]
            mask = self._space.masks[block]
            if mask != self._space.brims[block] and block not in self._transit:
                self._holes.add(block * self._space.width, mask)
        return self._holes.pages >= need

    def _may_choose(self) -> bool:
        before = self._ranked[self._front - 1]
        return self._front > len(self._ranked) - _CHOICE and self._used(before) > self._most

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
