"""By the time for which requests expect to come back."""

from infergc.heap.nodes import PASSED, Node
from infergc.heap.retention import Retention

_CLASS = 1 << 44  # steps or seconds, more than any engine sees


class Ttl(Retention):
    """Reclaim pages whose time is over, then those of which no time is known, then those whose time is over soonest.

    Of the first two kinds the least recently used go first. A promise to come back is taken at its word here: it
    holds against all pages without one.
    """

    def rank(self, node: Node) -> float:
        """The kind, and the place in it."""
        hint = node.hint
        if node.level == PASSED:
            return node.used
        if hint is None or hint.ttl is None:
            return _CLASS + node.used
        return 2 * _CLASS + hint.until
