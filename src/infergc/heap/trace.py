"""The backup trace: which objects roots reach, and whether pages' counts are what objects hold.

Both are made piece by piece, within a budget of work units, and both find what is wrong and mend it: garbage that
counts could not free, references that no object holds, counts that are too low.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from infergc.heap.cycles import scan_black
from infergc.heap.graph import ObjectGraph
from infergc.heap.holders import references_held
from infergc.heap.moves import I32
from infergc.heap.objects import HeapObject
from infergc.heap.provenance import read
from infergc.heap.space import Extent
from infergc.heap.state import HeapState
from infergc.units import ceil_div

_LOOKS_A_UNIT = 8  # objects that are looked up in a set in the time in which one is marked


@dataclass(frozen=True, slots=True)
class Leak:
    """References to pages that no object holds; they were dropped.

    Attributes:
        group: name of the layer group.
        first, pages: which pages.
        references: how many each had too many.
        owner: whose sequence took the last reference to them. Where it still holds them, the lost reference is an older
            one.
        place: the operation that took it.
    """

    group: str
    first: int
    pages: int
    references: int
    owner: str
    place: str

    def __str__(self) -> str:
        pages = f"page {self.first}" if self.pages == 1 else f"pages {self.first} to {self.first + self.pages - 1}"
        times = "" if self.references == 1 else f" {self.references} times"
        return f"group {self.group}: {pages} leaked{times}; last taken by {self.owner} in {self.place}"


@dataclass(slots=True)
class Findings:
    """What a trace found, and mended.

    Attributes:
        leaks: counts that were too high.
        garbage: kinds and owners of objects that no root reached.
        corrupt: counts that were too low, in words. These pages could have been handed out twice.
    """

    leaks: list[Leak] = field(default_factory=list)
    garbage: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.leaks or self.garbage or self.corrupt)

    def __str__(self) -> str:
        return "; ".join([*map(str, self.leaks), *self.garbage, *self.corrupt])

    def add(self, other: "Findings") -> None:
        """Take in what another piece of a trace found."""
        self.leaks += other.leaks
        self.garbage += other.garbage
        self.corrupt += other.corrupt


class Marking:
    """Marks what roots reached when it began, over many safepoints.

    A snapshot at the beginning: references dropped since are followed all the same (Yuasa, "Real-time garbage
    collection on general-purpose machines", 1990), and objects made since are not looked at. So what is not marked in
    the end was garbage in the beginning, and still is.
    """

    def __init__(self, graph: ObjectGraph) -> None:
        self._graph = graph
        self._snapshot = list(graph)
        self._front = list(graph.rooted.values())
        self._marked: set[int] = set()
        self._looked_at = 0  # of the snapshot, by ``look``
        self._unmarked: list[HeapObject] = []
        graph.watch_drops(on=True)

    def mark(self, budget: int) -> int:
        """Go on; returns the work done: objects and edges. Nothing is left to do when that is less than the budget."""
        work = 0
        self._front += [one for one in self._graph.take_drops() if one.id not in self._marked]
        while self._front and work < budget:
            one = self._front.pop()
            if one.id not in self._marked:
                self._marked.add(one.id)
                self._front.extend(one.holds.values())
                work += 1 + len(one.holds)
        return work

    def look(self, budget: int) -> int:
        """Once ``mark`` had nothing left to do: look for what it left out. Returns the work done, as ``mark`` does.

        What is not marked stays out of reach, so nothing that happens between two looks matters.
        """
        self._graph.watch_drops(on=False)
        seen, self._looked_at = self._looked_at, min(self._looked_at + budget * _LOOKS_A_UNIT, len(self._snapshot))
        self._unmarked += [one for one in self._snapshot[seen : self._looked_at] if one.id not in self._marked]
        return ceil_div(self._looked_at - seen, _LOOKS_A_UNIT)

    def sweep(self) -> list[HeapObject]:
        """Free what was not marked.

        Returns what trial deletion would have missed. What a candidate leads to is not: marking was first.
        Cost: O(objects that ``look`` was not asked to look at, and those freed), O(what candidates reach) if there is
        garbage.
        """
        self.look(len(self._snapshot))
        there = self._graph.objects
        garbage = [one for one in self._unmarked if one.id in there and not one.roots]
        known = scan_black(self._graph.candidates.values()) if garbage else set()
        self._graph.destroy(garbage)
        return [one for one in garbage if one.id not in known]


def kind_and_owner(one: HeapObject) -> str:
    """A heap object in words."""
    return f"{type(one).__name__} {one.id} of {one.owner}"


def check_pages(heap: HeapState, group: int, low: int, high: int, tree: I32 | None = None) -> Findings:
    """Compare the counts of pages low … high - 1 with the references that objects hold at this safepoint; mend them.

    Args:
        heap: whose.
        group: index of the layer group.
        low: the first page.
        high: the page after the last.
        tree: references of the prefix tree to these pages; by default what the pages' seals say.

    Cost: as ``references_held``.
    """
    pages, found = heap.groups[group], Findings()
    held = references_held(heap, group, low, high)
    held += pages.sealed[low:high] if tree is None else tree
    excess = pages.count[low:high] - held
    if not excess.any():
        return found
    for at, length in _alike(excess, pages.taken[low:high]):
        first, times = low + at, excess.item(at)
        if times < 0:
            pages.restore(first, held[at : at + length])
            found.corrupt.append(
                f"group {pages.spec.name}: pages {first} to {first + length - 1} count {-times} references "
                "too few; they may have been handed out twice"
            )
        elif times > 0:
            number, place = read(pages.taken.item(first))
            names = {sequence.id: sequence.owner for sequence in heap.sequences.values()}
            owner = names.get(number) or heap.owners.name(number)
            found.leaks.append(Leak(pages.spec.name, first, length, times, owner, place.name.lower()))
            for _ in range(times):
                pages.release([(first, length)])
    return found


def _alike(excess: I32, taken: NDArray[np.int64]) -> list[Extent]:
    """Runs of equal numbers but zero, whose last references were taken by the same: (where, how many)."""
    changes = (excess[1:] != excess[:-1]) | (taken[1:] != taken[:-1])
    cuts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(excess)]
    return [(low, high - low) for low, high in pairwise(cuts) if excess[low]]
