"""Compaction: when sparse superblocks are emptied, so that free pages lie together again.

What it gains: runs that new sequences find whole, so that their tables stay short, and superblocks that can be given
back. It runs at a safepoint, just before a step is begun: the copies are that step's moves, which the executor makes
before anything else, so whoever reads the pages next finds them at their new place. Steps in flight still read them at
the old one, which is held until the step that copies them is done (law 5).
"""

from dataclasses import dataclass

from infergc.heap.evacuation import Evacuation
from infergc.heap.space import FreeSpace
from infergc.heap.state import HeapState


@dataclass(frozen=True, slots=True)
class Compaction:
    """When it is worth it, and how much of it goes into a step.

    Attributes:
        budget: work units a step: see ``Evacuation.run``.
        sparse: share of its pages in use, 0 to 1, up to which a superblock is emptied.
        fragmentation: least share of the free pages, 0 to 1, that lies in superblocks partly in use.
        spare: least number of free pages there, in superblocks: it also keeps compaction, whose copies hold two
            pages for one until they are made, from making memory short.
        handling: units that emptying a superblock costs whatever it holds: to find its holders, and what numpy takes
            to be called. They take longer than all its pages, so a step empties one or two.
        rest: steps without a look after one that found nothing to do.
    """

    budget: int = 80
    sparse: float = 0.25
    fragmentation: float = 0.5
    spare: float = 2.0
    rest: int = 32
    handling: int = 32


class Compactor:
    """Empties sparse superblocks of a heap, some each step.

    Args:
        heap: whose.
        knobs: may be replaced between steps.
    """

    def __init__(self, heap: HeapState, knobs: Compaction) -> None:
        self.knobs = knobs
        self._heap = heap
        self._next_look = [0] * len(heap.groups)  # step
        self._passes: list[Evacuation | None] = [None] * len(heap.groups)

    def compact(self, budget: int) -> int:
        """Empty superblocks within so many work units, which are returned as far as they were spent.

        A superblock is emptied whole or left as it is. The moves go with the next step that is begun.
        Cost: O(groups) where there is nothing to do; else what ``Evacuation`` costs.
        """
        spent, planning, groups = 0, self._heap.planning, self._heap.groups
        for at in range(len(groups)):
            group = (planning + at) % len(groups)  # the budget is one: each group goes first in its turn
            if planning >= self._next_look[group] and self._worth_it(groups[group].space):
                spent += self._compact_group(group, budget - spent)
        return spent

    def _worth_it(self, space: FreeSpace) -> bool:
        gaps = space.free - space.whole
        return gaps > self.knobs.spare * space.width and gaps >= self.knobs.fragmentation * space.free

    def _compact_group(self, group: int, budget: int) -> int:
        work = self._passes[group] or Evacuation(self._heap, group, self.knobs.sparse, self.knobs.handling)
        emptied, moved = work.emptied, work.moved
        spent = work.run(budget)
        self._passes[group] = None if work.over else work
        if work.over and not work.emptied:
            self._next_look[group] = self._heap.planning + self.knobs.rest
        self._heap.counters.compactions += work.emptied - emptied
        self._heap.counters.moved += work.moved - moved
        return spent
