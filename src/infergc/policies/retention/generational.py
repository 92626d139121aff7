"""Least recently used, but what has proved useful counts as used later than it was."""

from dataclasses import dataclass

from infergc.heap.generations import TENURED
from infergc.heap.nodes import Node


@dataclass(frozen=True, slots=True)
class Generational:
    """Reclaim the leaf whose last use, there or below, lies furthest back, with a credit by generation.

    A leaf that was served since it was last looked at counts as of the generation that it will go to. Credits instead
    of strict classes bound what a wrong guess costs: an old survivor goes before what is that much younger.

    Attributes:
        survivor, tenured: credits in steps.
    """

    survivor: int = 256
    tenured: int = 512

    def rank(self, node: Node) -> float:
        """The step of the last use, and the credit."""
        generation = min(node.generation + (node.uses > node.proved), TENURED)
        return node.used + (0, self.survivor, self.tenured)[generation]
