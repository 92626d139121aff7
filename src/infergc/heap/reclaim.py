"""Reclaim: cached prefix pages given up for space, in the policy's order (laws 6 and 9).

Pages go from the end of idle leaves, so that what stays is a closed tree. ``make_room`` gives what a
reservation needs; ``make_runs`` gives a little more, so that the pages of long sequences lie together.
"""

from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf

from infergc.heap.errors import HeapCorruption
from infergc.heap.nodes import Node
from infergc.heap.objects import Sequence
from infergc.heap.pages import Pages, runs_of
from infergc.heap.residency import Residency
from infergc.heap.stats import HeapCounters
from infergc.heap.tree import PrefixTree

REASONS = ("room", "runs", "target")  # for a reservation, for adjacent pages, for the share to be kept free
_SPARE = 32  # make_runs keeps at most one page in so many free


class Reclaimer:
    """Takes pages back from the prefix tree for all layer groups at once.

    Args:
        finalize: is told of a leaf and how many of its last pages are about to go: so that they may be demoted.

    Attributes:
        residency: how long the pages taken had been in the tree.
        target_free: share of each group's pages, 0 to 1, that ``refill`` keeps free.
    """

    def __init__(
        self,
        tree: PrefixTree,
        groups: tuple[Pages, ...],
        sequences: Mapping[int, Sequence],
        counters: HeapCounters,
        cut_parked: Callable[[Sequence, int], None],
        finalize: Callable[[Node, int], None] | None,
    ) -> None:
        self._tree = tree
        self._groups = groups
        self._sequences = sequences
        self._counters = counters
        self.residency = Residency()
        self.target_free = 0.0
        self._cut_parked = cut_parked
        self._finalize = finalize

    def grantable(self, needs: SequenceOf[int]) -> bool:
        """Whether free and cached pages cover these needs, one a group. Cost: O(groups)."""
        return all(need <= pages.grantable for need, pages in zip(needs, self._groups, strict=True))

    def make_room(self, needs: SequenceOf[int], step: int) -> bool:
        """Reclaim until so many pages are free in each group; False, with nothing changed, if that cannot be.

        Cost: O(pages reclaimed); with a sliding window, what ``_expose`` costs for every leaf it opens.
        """
        if self._shortage(needs) <= 0:
            return True
        if not self.grantable(needs):
            return False
        while (short := self._shortage(needs)) > 0:
            if not self._reclaim(short, step, "room"):
                self._expose(step)
        return True

    def make_runs(self, group: int, pages: int, after: int, expect: int, step: int) -> None:
        """Reclaim on until ``FreeSpace.take`` with these arguments finds adjacent pages.

        A full cache would free page by page, in the order in which leaves shrink, and tables would end up in
        single pages. It stops when 1/32 of the group is free. Cost: O(pages reclaimed).
        """
        space = self._groups[group].space
        while space.free * _SPARE < space.capacity and not space.fits(pages, after, expect):
            if not self._reclaim(max(pages, expect), step, "runs"):
                return

    def refill(self, budget: int, step: int) -> int:
        """Reclaim until ``target_free`` of each group is free, ``budget`` pages at most; returns how many it took.

        So that a burst finds free pages and need not wait for reclaim. Cost: O(groups + pages reclaimed).
        """
        taken = 0
        while self.target_free and taken < budget and (short := self._shortage(self._targets())) > 0:
            count = self._reclaim(min(short, budget - taken), step, "target")
            if not count:
                break
            taken += count
        return taken

    def _targets(self) -> list[int]:
        return [int(self.target_free * pages.spec.capacity) for pages in self._groups]

    def _shortage(self, needs: SequenceOf[int]) -> int:
        return max([need - pages.space.free for need, pages in zip(needs, self._groups, strict=True)])

    def _reclaim(self, pages: int, step: int, reason: str) -> int:
        """Cut up to so many pages off the leaf that goes first; returns how many, 0 if no leaf is idle."""
        leaf = self._tree.order.pop()
        if leaf is None:
            return 0
        retention = self._tree.order.retention
        count = retention.span(leaf, min(pages, leaf.length))
        retention.reclaimed(leaf, count)
        if self._finalize is not None:
            self._finalize(leaf, count)
        removed = self._tree.trim(leaf, count)
        self.residency.add(leaf.generation, removed[0], self._groups[0].born, step)
        for group, numbers in zip(self._groups, removed, strict=True):
            group.unseal(runs_of(numbers))
        self._counters.evicted += count
        self._counters.evicted_for[reason] += count
        return count

    def _expose(self, step: int) -> None:
        """Open the way to cached pages behind a live leaf.

        Only a sliding window leaves such pages: the sequence still holds the leaf but not what is before its
        window. The leaf becomes private, its sequences publish no more, and reclaim goes on from its parent. A parked
        sequence gives its part of the leaf back: nobody could find it there.
        Cost: O(depth × pages of the tree + open sequences), for every leaf opened.
        """
        leaves = [node for node in self._tree.nodes() if not node.children and self._hides_cached(node)]
        if not leaves:
            raise HeapCorruption("law 9: pages are counted as cached, but the prefix tree has none")
        leaf = min(leaves, key=lambda node: (node.used, node.id))
        if leaf.idle:
            raise HeapCorruption(f"law 6: node {leaf.id} is an idle leaf that reclaim does not know")
        for sequence in self._sequences.values():
            if sequence.tip is leaf:
                self._tree.unstand(sequence, sequence.sealed - leaf.length, step)
                sequence.publishing = False
                if sequence.slot < 0:
                    self._cut_parked(sequence, leaf.length)

    def _hides_cached(self, leaf: Node) -> bool:
        return any(
            (group.count[column.view()] == 1).any()
            for node in self._tree.path(leaf)
            for group, column in zip(self._groups, node.pages, strict=True)
        )
