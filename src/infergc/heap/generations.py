"""Generations of prefix-tree nodes: young, survivor, tenured; who proves useful moves up, who is forgotten moves down.

The weak generational hypothesis (Ungar, "Generation Scavenging", 1984), for cached prefixes: most are never asked for
again, and those that were are likely to be once more. Ages are in steps.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from infergc.heap.nodes import Node

YOUNG, SURVIVOR, TENURED = range(3)
GENERATIONS = ("young", "survivor", "tenured")


@dataclass(frozen=True, slots=True)
class Ages:
    """Steps after which a node is looked at: was it served since it came, or since the last look?

    Attributes:
        young: of a young node. Served, it survives; else it stays young and is looked at when it is served.
        survivor: of a survivor. Served, it is tenured; else it is young again.
        tenured: of a tenured node. Not served in so long, it is a survivor again.
    """

    young: int = 256
    survivor: int = 512
    tenured: int = 1024


Waiting = OrderedDict[int, tuple[int, Node]]  # id → when the node entered, and the node; the earliest first


class Generations:
    """Which generation a node is in, and when it is looked at next.

    Nodes wait by the step at which they entered, and steps ascend: so whatever the ages are when somebody looks, those
    that are due stand in front. No more wait than the tree holds: who is reclaimed waits no longer.

    Args:
        ages: how long a node stays before it is looked at; may be replaced at any time.
        moved: told of each node whose generation changed.
    """

    def __init__(self, ages: Ages, moved: Callable[[Node], None]) -> None:
        self.ages = ages
        self.promoted = [0, 0, 0]  # nodes that entered each generation from below
        self.demoted = [0, 0, 0]  # and from above
        self._moved = moved
        self._waiting: tuple[Waiting, ...] = (OrderedDict(), OrderedDict(), OrderedDict())  # by generation

    def enter(self, node: Node, step: int) -> None:
        """A node was born, or is served for the first time since it was left young. Cost: O(1).

        Args:
            node: which is not waiting.
            step: the step being planned.
        """
        self._waiting[node.generation][node.id] = (step, node)

    def leave(self, node: Node) -> None:
        """A node was reclaimed. Cost: O(1)."""
        self._waiting[node.generation].pop(node.id, None)

    def of_age(self, generation: int, step: int) -> bool:
        """Whether ``look`` would find anything to do. Cost: O(1)."""
        waiting = self._waiting[generation]
        return bool(waiting) and waiting[next(iter(waiting))][0] + self._age(generation) <= step

    def look(self, generation: int, step: int, budget: int, since: int | None = None) -> int:
        """Look at nodes of a generation that have come of age, ``budget`` at most; returns how many.

        Args:
            generation: which.
            step: the step being planned.
            budget: see above.
            since: only at those that were of age at this step. As who is looked at enters anew, they come to an end.

        Cost: O(nodes looked at), whatever the tree holds.
        """
        looked, until = 0, step if since is None else since
        while looked < budget and self.of_age(generation, until):
            _, (_, node) = self._waiting[generation].popitem(last=False)
            self._judge(node, generation, step)
            looked += 1
        return looked

    def _judge(self, node: Node, generation: int, step: int) -> None:
        """Move a node up or down by whether it was served since the last look."""
        served, node.proved = node.uses > node.proved, node.uses
        target = min(generation + 1, TENURED) if served else max(generation - 1, YOUNG)
        if target != generation:
            (self.promoted if served else self.demoted)[target] += 1
            node.generation = target
            self._moved(node)
        if served or target != YOUNG:
            self.enter(node, step)
        else:
            node.resting = True

    def _age(self, generation: int) -> int:
        return (self.ages.young, self.ages.survivor, self.ages.tenured)[generation]
