"""By the priority that requests gave their pages."""

from infergc.heap.nodes import Node
from infergc.heap.retention import Retention
from infergc.policies.retention.hinted import ranked


class Priority(Retention):
    """Reclaim pages whose time is over, then the least priority; of equal ones the least recently used."""

    def rank(self, node: Node) -> float:
        """Level, then the step of the last use."""
        return ranked(node)
