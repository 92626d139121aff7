"""Trial deletion: cycles of heap objects that nothing outside holds.

Bacon and Rajan, "Concurrent Cycle Collection in Reference Counted Systems" (ECOOP 2001), the synchronous variant. Its
colours are sets here: an object is gray when it has a trial count, white when that stays zero, black otherwise.
"""

from collections.abc import Iterable

from infergc.heap.graph import ObjectGraph
from infergc.heap.objects import HeapObject


def collect(graph: ObjectGraph, budget: int) -> tuple[list[HeapObject], int]:
    """Free the garbage cycles that candidates are part of or lead to.

    Candidates are looked at one after the other until the work is ``budget`` or more; the rest stay for later.

    Returns:
        What was freed, and the work done: objects and edges looked at.
    Cost: O(what the candidates reach), whatever the graph holds.
    """
    freed: list[HeapObject] = []
    work = 0
    while graph.candidates and work < budget:
        _, candidate = graph.candidates.popitem(last=False)
        trial = mark_gray(candidate)
        white = scan(trial)
        work += sum(1 + len(one.holds) for one, _ in trial.values())
        for number in trial:
            graph.candidates.pop(number, None)  # what is black now is held from without, and what is white goes
        collect_white(graph, white)
        freed += white
    return freed, work


Trial = dict[int, tuple[HeapObject, int]]  # id → object, references that come from outside what the candidate reaches


def mark_gray(candidate: HeapObject) -> Trial:
    """Everything that the candidate reaches, its counts less the references from within."""
    counts = {candidate.id: candidate.refs}
    reached = {candidate.id: candidate}
    front = [candidate]
    while front:
        for held in front.pop().holds.values():
            if held.id not in reached:
                reached[held.id], counts[held.id] = held, held.refs
                front.append(held)
            counts[held.id] -= 1
    return {number: (one, counts[number]) for number, one in reached.items()}


def scan(trial: Trial) -> list[HeapObject]:
    """The objects that nothing from without keeps, in order of their ids."""
    black = scan_black(one for one, outside in trial.values() if outside)
    return [one for number, (one, _) in sorted(trial.items()) if number not in black]


def scan_black(held: Iterable[HeapObject]) -> set[int]:
    """Ids of these objects and of all that they reach: they stay."""
    front = list(held)
    black = {one.id for one in front}
    while front:
        for one in front.pop().holds.values():
            if one.id not in black:
                black.add(one.id)
                front.append(one)
    return black


def collect_white(graph: ObjectGraph, white: list[HeapObject]) -> None:
    """Free the garbage."""
    graph.destroy(white)
