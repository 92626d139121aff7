"""Least recently used."""

from infergc.heap.nodes import Node
from infergc.heap.retention import Retention


class Lru(Retention):
    """Reclaim the leaf whose last use, there or below, lies furthest back."""

    def rank(self, node: Node) -> float:
        """The step of the last use."""
        return node.used
