"""One pass of compaction over a layer group: sparse superblocks are emptied into the gaps of fuller ones.

W is pages in a superblock.
"""

import numpy as np

from infergc.heap.holders import Holders, HolderScan, rewrite
from infergc.heap.holes import Holes
from infergc.heap.moves import Move
from infergc.heap.ranking import Ranking
from infergc.heap.space import runs_in
from infergc.heap.state import HeapState

_CHOICE = 16  # superblocks among whose gaps a run looks for the one that fits it best


class Evacuation:
    """Takes victims from the sparse end of a ranking and room from its full end, until these meet.

    The ranking is made and worked off over several steps; each superblock is looked at again when its turn comes.
    Every one emptied is one less in use: room is never taken from a superblock that is wholly free, nor from one
    that stands among the victims still to come before it, nor where a page is in transit, as in those just emptied.

    Args:
        heap: whose pages move.
        group: which of its layer groups.
        sparse: share of pages in use, 0 to 1, up to which a superblock may be emptied.
        handling: units that emptying one costs whatever it holds.

    Attributes:
        emptied, moved: superblocks and pages, so far.
    """

    def __init__(self, heap: HeapState, group: int, sparse: float, handling: int) -> None:
        self.emptied = self.moved = 0
        self._heap, self._group = heap, group
        self._pages, self._space = heap.groups[group], heap.groups[group].space
        self._handling = handling
        self._most = int(sparse * self._space.width)  # pages that are not free, in a victim
        self._ranking: Ranking | None = Ranking(self._space)  # until it is made
        self._ranked: list[int] = []
        self._next = 0  # in the ranking: the next victim
        self._front = 0  # from here on superblocks offered their gaps
        self._holes = Holes()
        self._offered: dict[int, int] = {}  # superblocks whose gaps these are, and their masks after the latest step
        self._transit: set[int] = set()
        self._scan = HolderScan(heap, group)

    def run(self, budget: int) -> int:
        """Empty superblocks, sparsest first, within a step's budget; returns the units spent.

        A unit is a page moved, an extent or a tree page rewritten, a look at a superblock that may be emptied or may
        offer gaps, or 16 superblocks ranked; emptying one costs ``handling`` more. One that would cost more than the
        budget stays as it is, as does one with a reference that nobody here can rewrite: a leak.
        Cost: O(budget), O(gaps offered and extents in flight), and what ``HolderScan`` costs if it gets to a victim.
        """
        spent = self._rank(budget)
        if self._ranking is not None:
            return spent
        self._transit, self._scan = self._in_transit(), HolderScan(self._heap, self._group)
        self._withdraw()
        while self._next < self._front and (units := self._visit(budget, budget - spent)):
            spent += units
        self._offered = {block: mask for block in self._offered if (mask := self._space.masks[block])}
        if self._next >= self._front:
            self._next = len(self._ranked)  # the ends have met
        return spent

    @property
    def over(self) -> bool:
        """Whether the ranking is worked off."""
        return self._ranking is None and self._next >= len(self._ranked)

    def _rank(self, budget: int) -> int:
        """Go on with the ranking, if it is not made; returns the units spent."""
        if self._ranking is None:
            return 0
        spent = self._ranking.file(budget)
        if self._ranking.over:
            self._ranked, self._ranking = self._ranking.sparsest_first(), None
            self._front = len(self._ranked)
        return spent

    def _visit(self, budget: int, left: int) -> int:
        """See to the next victim with what is left of a budget; returns the units spent, 0 if it must wait."""
        if not left:
            return 0
        block = self._ranked[self._next]
        need = self._used(block)
        if not 0 < need <= self._most or block in self._transit:
            self._next += 1
            return 1
        if offered := self._find_room(need, left):
            return offered
        if self._holes.pages >= need:
            return self._evacuate(block, need, budget, left)
        self._next = len(self._ranked)  # nor is there room for those after it
        return 0

    def _evacuate(self, block: int, need: int, budget: int, left: int) -> int:
        """Empty a superblock for which there is room, if it may be; units as ``_visit``."""
        least = self._handling + need + 1  # spares a look at the tables that this step has no use for
        if left < least <= budget:
            return 0
        holders = self._scan.holders(block * self._space.width, (block + 1) * self._space.width)
        cost = least - 1 + holders.entries
        if left < cost <= budget:
            return 0
        self._next += 1
        if cost > budget or not self._all_known(holders):
            return 1
        self._empty(block, holders)
        return cost

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

    def _withdraw(self) -> None:
        """Offer no more gaps of superblocks that others took from, gave to, or are about to give to."""
        for block, mask in list(self._offered.items()):
            if mask != self._space.masks[block] or block in self._transit:
                del self._offered[block]
                self._holes.drop(block * self._space.width, (block + 1) * self._space.width)

    def _find_room(self, need: int, left: int) -> int:
        """Offer the gaps of the fullest superblocks until they hold so many pages; returns how many were looked at.

        A few more than need be are offered, that a run may find a gap of its length; but no sparse one.
        """
        before = self._front
        while self._front > max(self._next + 1, before - left) and (self._holes.pages < need or self._may_choose()):
            self._front -= 1
            block = self._ranked[self._front]
            mask = self._space.masks[block]
            if mask != self._space.brims[block] and block not in self._transit:
                self._holes.add(block * self._space.width, mask)
                self._offered[block] = mask
        return before - self._front

    def _may_choose(self) -> bool:
        before = self._ranked[self._front - 1]
        return len(self._offered) < _CHOICE and self._used(before) > self._most

    def _all_known(self, holders: Holders) -> bool:
        """Whether every reference to the superblock's pages is held by someone who can be told."""
        counted = self._pages.count[holders.low : holders.low + self._space.width].sum()
        return int(counted) == holders.references

    def _empty(self, block: int, holders: Holders) -> None:
        """Move a superblock's pages, longest runs first; what they were stays in transit until the copies are made."""
        low, heap = holders.low, self._heap
        used = list(runs_in(self._space.brims[block] & ~self._space.masks[block]))
        to = np.full(self._space.width, -1, np.int32)
        for offset, length in sorted(used, key=lambda run: -run[1]):
            at = offset
            for first, count in self._holes.take(length):
                self._space.take_run(first, count)
                self._pages.move(low + at, first, count)
                to[at : at + count] = np.arange(first, first + count)
                heap.moves += [
                    Move("copy", self._group, low + at + page, first + page, heap.page_tokens) for page in range(count)
                ]
                at += count
        rewrite(heap, self._group, holders, to)
        heap.hold(heap.planning, self._group, [(low + offset, length) for offset, length in used])
        self.emptied += 1
        self.moved += sum(length for _, length in used)
