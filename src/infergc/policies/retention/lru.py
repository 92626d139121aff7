"""Least recently used."""

from dataclasses import dataclass

from infergc.heap.nodes import Node


@dataclass(frozen=True, slots=True)
class Lru:
    """Reclaim the leaf whose last use, there or below, lies furthest back."""

    def rank(self, node: Node) -> float:
        """The step of the last use."""
        return node.used
