"""What a retention policy may say, and the order in which idle leaves of the prefix tree are reclaimed by it."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from infergc.heap.nodes import I32, U64, Namespace, Node


class End(NamedTuple):
    """The leaf at one end of a queue, and its rank there."""

    rank: float
    node: Node


class Retention:
    """What stays in the cache when not everything can: a policy says which idle leaf goes next.

    A policy files each idle leaf in one of its queues, by rank, and chooses between their ends. Most have one queue
    and say no more than ``rank``. A leaf's place changes when it is used or cut, and where ``ReclaimOrder.renew`` is
    called, at no other time. Nothing here may read a clock or draw at random (law 10).

    Attributes:
        queues: how many there are.
        both_ends: whether leaves may also go from where the rank is greatest.
    """

    queues: int = 1
    both_ends: bool = False

    def begin(self, pages: int, page_tokens: int) -> None:
        """The heap holds so many pages, in its smallest layer group, of so many tokens. Called once, first."""

    def asked(self, namespace: Namespace, prompt: I32) -> U64 | None:  # noqa: ARG002 - for policies that remember
        """A request with this prompt starts, for the first time: what is cached of it is in use by now.

        Returns:
            The marks of the prompt's whole pages, if the policy works them out: then nobody need do so again.
        """
        return None

    def rank(self, node: Node) -> float:
        """Where an idle leaf stands in its queue: the smallest goes first; ties go to the older node."""
        raise NotImplementedError

    def place(self, node: Node) -> tuple[int, float]:
        """An idle leaf's queue, 0 to ``queues`` - 1, and its rank there."""
        return 0, self.rank(node)

    def choose(self, ends: Sequence[End | None]) -> int:
        """Which leaf goes next: the index of one that is there, of which there is one at least.

        Args:
            ends: by queue the leaf of least rank; with ``both_ends`` each is followed by that of greatest, its rank
                negated.
        """
        return next(index for index, end in enumerate(ends) if end is not None)

    def span(self, node: Node, pages: int) -> int:  # noqa: ARG002 - for policies that tell pages of an edge apart
        """How many of the leaf's last ``pages`` pages may go at once, at least one: those that are worth the same."""
        return pages

    def reclaimed(self, node: Node, pages: int) -> None:
        """The leaf's last ``pages`` pages are about to be reclaimed."""


_STALE = 64  # entries that may lie about in any case: fewer are not worth a look at all of them

_Entry = tuple[float, int, int, Node, int, int]  # rank, id, entry's number, node, when it was used, its length


class ReclaimOrder:
    """Priority queues of idle leaves. Entries of nodes that were used meanwhile are refreshed on the way out.

    Those whose place another took are dropped on the way out too, and all at once when they come to be the most.
    """

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self._heaps: list[list[_Entry]] = [[] for _ in range(retention.queues * (1 + retention.both_ends))]
        self._queued: dict[int, int] = {}  # id → number of the entry that counts
        self._entries = 0

    def offer(self, node: Node) -> None:
        """The node may have become idle. Cost: O(log leaves)."""
        if node.idle and node.id not in self._queued:
            self._push(node)

    def renew(self, node: Node) -> None:
        """The node's rank may have fallen: what is queued of it would come too late. Cost: O(log leaves) amortised."""
        if node.id in self._queued:
            self._push(node)

    def pop(self) -> Node | None:
        """Remove and return the idle leaf to reclaim next, None if there is none.

        Cost: O(queues), and O(log leaves) amortised.
        """
        ends = self._ends()
        if not any(ends) and self._queued:
            ends = self._ends()  # a leaf was filed anew, in a queue that had been looked at
        if not any(ends):
            return None
        end = ends[self.retention.choose(ends) if len(ends) > 1 else 0]
        assert end is not None, "a policy chooses a leaf that is there"
        del self._queued[end.node.id]
        return end.node

    def _ends(self) -> list[End | None]:
        return [self._end(heap) if heap else None for heap in self._heaps]

    def _end(self, heap: list[_Entry]) -> End | None:
        """The end of a queue, its rank as it was filed; what stands before it and does not count goes."""
        while heap:
            rank, _, entry, node, used, length = heap[0]
            if self._queued.get(node.id) != entry:
                heappop(heap)  # another entry took its place, or it was reclaimed
            elif node.idle and node.used == used and node.length == length:
                return End(rank, node)
            else:
                del self._queued[node.id]
                heappop(heap)
                self.offer(node)
        return None

    def _push(self, node: Node) -> None:
        self._entries += 1
        self._queued[node.id] = self._entries
        queue, rank = self.retention.place(node)
        entry = (self._entries, node, node.used, node.length)
        if self.retention.both_ends:
            self._file(2 * queue, (rank, node.id, *entry))
            self._file(2 * queue + 1, (-rank, -node.id, *entry))
        else:
            self._file(queue, (rank, node.id, *entry))

    def _file(self, index: int, entry: _Entry) -> None:
        heap = self._heaps[index]
        heappush(heap, entry)
        if len(heap) > 2 * len(self._queued) + _STALE:
            heap[:] = [each for each in heap if self._queued.get(each[3].id) == each[2]]
            heapify(heap)

    def __contains__(self, node: Node) -> bool:
        return node.id in self._queued
