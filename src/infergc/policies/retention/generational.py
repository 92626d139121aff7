"""By generation, and least recently used within one."""

from dataclasses import dataclass

from infergc.heap.generations import TENURED
from infergc.heap.nodes import Node

_GENERATION = 2.0**40  # more than any step's number; ranks stay whole numbers that a float holds


@dataclass(frozen=True, slots=True)
class Generational:
    """Reclaim young leaves first, then survivors, then tenured ones.

    A leaf that was served since it was last looked at counts as of the generation it will go to.
    """

    def rank(self, node: Node) -> float:
        """Generation first, then the step of the last use."""
        generation = min(node.generation + (node.uses > node.proved), TENURED)
        return generation * _GENERATION + node.used
