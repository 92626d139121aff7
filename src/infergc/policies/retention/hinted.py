"""What requests asked of their pages comes first, and a policy decides about the rest."""

from collections.abc import Sequence

from infergc.cache_control import ORDINARY
from infergc.heap.nodes import I32, U64, Namespace, Node
from infergc.heap.retention import End, Retention

_LEVEL = 1 << 44  # steps, more than any engine makes: a level weighs more than all recency


class Hinted(Retention):
    """Reclaim by level, and of the ordinary level as another policy says.

    Pages whose time is over go first, then those of low priority, then ordinary ones by the policy, at last those of
    high priority. On any other level than the ordinary one the least recently used go first.
    """

    def __init__(self, policy: Retention) -> None:
        self.queues = policy.queues + 2
        self.both_ends, self.eager = policy.both_ends, policy.eager
        self._policy = policy
        self._width = 1 + policy.both_ends

    def begin(self, pages: int, page_tokens: int) -> None:
        """See ``Retention``."""
        self._policy.begin(pages, page_tokens)

    def asked(self, namespace: Namespace, prompt: I32) -> U64 | None:
        """See ``Retention``."""
        return self._policy.asked(namespace, prompt)

    def place(self, node: Node) -> tuple[int, float]:
        """The policy's place, or one of two queues of our own: before all of its, and after them."""
        if node.level == ORDINARY:
            return self._policy.place(node)
        return self.queues - 1 - (node.level < ORDINARY), ranked(node)

    def choose(self, ends: Sequence[End | None]) -> int | None:
        """See the class. Cost: the policy's."""
        before, after = len(ends) - 2 * self._width, len(ends) - self._width
        if ends[before] is not None:
            return before
        ordinary = ends[:before]
        return self._policy.choose(ordinary) if any(ordinary) else after

    def span(self, node: Node, pages: int) -> int:
        """All of a node that was spoken of; else the policy's."""
        return self._policy.span(node, pages) if node.level == ORDINARY else pages

    def reclaimed(self, node: Node, pages: int) -> None:
        """See ``Retention``."""
        self._policy.reclaimed(node, pages)


def ranked(node: Node) -> float:
    """By level, and on one level by the step of the last use."""
    return node.level * _LEVEL + node.used
