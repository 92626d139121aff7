"""Hints: what requests said of the worth of their prompts' pages, and for how long it holds.

Retention reads them, nothing else does: a hint holds no page. Time is what ``tick`` was last told (law 10).
"""

from dataclasses import replace
from heapq import heapify, heappop, heappush

from infergc.cache_control import ORDINARY
from infergc.heap.nodes import Hint, Node
from infergc.heap.retention import ReclaimOrder

_STALE = 64  # entries that may lie about in any case


class Hints:
    """The hints of a prefix tree's nodes, and the time.

    Attributes:
        now: seconds, by the last ``tick``.

    Args:
        order: in which leaves are reclaimed; it is told where a leaf comes to be worth less.
    """

    def __init__(self, order: ReclaimOrder) -> None:
        self.now = 0
        self._order = order
        self._due: list[tuple[int, int, Node]] = []  # not after which second to look, node's id, node
        self._watched: set[int] = set()  # ids of nodes that stand there
        self._most = _STALE  # entries, until those of nodes that are gone are looked for

    def give(self, node: Node, priority: int, ttl: int | None, *, own: bool) -> None:
        """A request asks this of a node's pages; of two wishes for the same pages the stronger holds.

        Args:
            node: on its prompt's path.
            priority: see ``Hint``.
            ttl: see ``Hint``.
            own: the request computed the pages. Of others' pages it can ask for more than they had, not for less.

        Cost: O(log hints) amortised.
        """
        known = node.hint
        if known is None and not own and priority <= ORDINARY:
            return
        if known is not None:
            ttl = None if known.ttl is None or ttl is None else max(known.ttl, ttl)
            priority = max(known.priority, priority)
        is_shared = not own if known is None else known.is_shared
        node.hint = Hint(priority, ttl, self.now + (ttl or 0), is_shared)
        self._watch(node)
        self._order.renew(node)

    def used(self, node: Node) -> None:
        """A request is served from a node: its time begins anew. Cost: O(1), O(log hints) if it was over."""
        hint = node.hint
        if hint is not None and hint.ttl is not None:
            node.hint = replace(hint, until=self.now + hint.ttl, passed=False)
            if hint.passed:
                self._watch(node)

    def inherit(self, upper: Node, node: Node) -> None:
        """The upper half of a node that is split has the same hint. Cost: O(log hints)."""
        upper.hint = node.hint
        self._watch(upper)

    def tick(self, now: int) -> None:
        """The time is ``now``, in seconds: hints end. Cost: O(log hints) for each of these, amortised."""
        self.now = max(self.now, now)
        while self._due and self._due[0][0] < self.now:
            _, number, node = heappop(self._due)
            self._watched.remove(number)
            hint = node.hint
            if hint is None or not node.length or hint.ttl is None:
                continue  # it was reclaimed, or its time has no end any more
            if hint.until < self.now:
                node.hint = None if hint.is_shared else replace(hint, passed=True)
                self._order.renew(node)
            else:
                self._watch(node)

    def watches(self, node: Node) -> bool:
        """Whether a node's time will be seen to be over."""
        return node.id in self._watched

    def _watch(self, node: Node) -> None:
        hint = node.hint
        if hint is None or hint.ttl is None or hint.passed or node.id in self._watched:
            return
        heappush(self._due, (hint.until, node.id, node))
        self._watched.add(node.id)
        if len(self._due) > self._most:
            self._due = [entry for entry in self._due if entry[2].length]
            heapify(self._due)
            self._watched = {number for _, number, _ in self._due}
            self._most = 2 * len(self._due) + _STALE
