"""The order in which idle leaves of the prefix tree are reclaimed; the policy says who goes first."""

from heapq import heapify, heappop, heappush
from typing import Protocol

from infergc.heap.nodes import Node


class Retention(Protocol):
    """What stays in the cache when not everything can."""

    def rank(self, node: Node) -> float:
        """Leaves of the smallest rank are reclaimed first; ties go to the older node. Reads history only."""
        ...


_STALE = 64  # entries that may lie about in any case: fewer are not worth a look at all of them


class ReclaimOrder:
    """A priority queue of idle leaves. Entries of nodes that were used meanwhile are refreshed on the way out.

    Those whose place another took are dropped on the way out too, and all at once when they come to be the most.
    """

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._queue: list[tuple[float, int, int, Node]] = []  # rank, id, entry's number, node
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
            if len(self._queue) > 2 * len(self._queued) + _STALE:
                self._queue = [each for each in self._queue if self._queued.get(each[1]) == each[2]]
                heapify(self._queue)

    def pop(self) -> Node | None:
        """Remove and return the idle leaf to reclaim next, None if there is none. Cost: O(log leaves) amortised."""
        while self._queue:
            rank, node_id, entry, node = heappop(self._queue)
            if self._queued.get(node_id) != entry:
                continue  # another entry took its place
            del self._queued[node_id]
            if node.idle and self._retention.rank(node) == rank:
                return node
            self.offer(node)
        return None

    def _push(self, node: Node) -> None:
        self._entries += 1
        self._queued[node.id] = self._entries
        heappush(self._queue, (self._retention.rank(node), node.id, self._entries, node))

    def __contains__(self, node: Node) -> bool:
        return node.id in self._queued
