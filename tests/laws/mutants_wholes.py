"""Planted bugs in what frees: the object graph, trial deletion, parking, marking, sweeping, generations."""

from typing import Any

from infergc.heap import collector as collector_module
from infergc.heap import cycles, trace
from infergc.heap.graph import ObjectGraph
from infergc.heap.heap import Heap
from infergc.heap.objects import BeamGroup, HeapObject, Sequence
from infergc.heap.pages import Pages
from infergc.heap.state import HeapState
from infergc.heap.trace import Marking
from laws.mutants import Patch, around, mutant

# ---- counts of objects, and trial deletion


@mutant(2)
def a_lost_reference_makes_no_candidate(patch: Patch) -> None:
    def lose(original: Any, graph: ObjectGraph, one: HeapObject) -> None:
        original(graph, one)
        graph.candidates.pop(one.id, None)

    around(patch, ObjectGraph, "_lose", lose)


@mutant(2)
def mark_gray_forgets_an_edge(patch: Patch) -> None:
    def mark_gray(original: Any, candidate: HeapObject) -> cycles.Trial:
        trial: cycles.Trial = original(candidate)
        return {number: (one, outside + (one is candidate)) for number, (one, outside) in trial.items()}

    around(patch, cycles, "mark_gray", mark_gray)


@mutant(2)
def mark_gray_takes_roots_for_edges(patch: Patch) -> None:
    def mark_gray(original: Any, candidate: HeapObject) -> cycles.Trial:
        return {number: (one, outside - one.roots) for number, (one, outside) in original(candidate).items()}

    around(patch, cycles, "mark_gray", mark_gray)


@mutant(2)
def scan_black_forgets_what_is_reached(patch: Patch) -> None:
    patch.setattr(cycles, "scan_black", lambda held: {one.id for one in held})


# ---- parking


@mutant(7)
def a_park_keeps_the_tail(patch: Patch) -> None:
    def park(original: Any, heap: Heap, sequence: Sequence) -> None:
        sealed, sequence.sealed = sequence.sealed, 1 << 20
        original(heap, sequence)
        sequence.sealed = sealed

    around(patch, Heap, "_park", park)


@mutant(9)
def a_parked_sequence_keeps_its_slot_from_others(patch: Patch) -> None:
    def vacate(original: Any, heap: Heap, sequence: Sequence) -> None:
        original(heap, sequence)
        if sequence.parked:
            heap._slots.pop()

    around(patch, Heap, "_vacate", vacate)


@mutant(5, "one-8-deep")
def a_parked_sequence_forgets_the_step_that_reads_it(patch: Patch) -> None:
    def park(original: Any, heap: Heap, sequence: Sequence) -> None:
        original(heap, sequence)
        sequence.last_read = -1

    around(patch, Heap, "_park", park)


@mutant(7)
def a_parked_turn_keeps_what_left_the_tree(patch: Patch) -> None:
    patch.setattr(Heap, "_cut_parked", lambda *_: None)


# ---- marking and sweeping


@mutant(2)
def marking_forgets_who_a_group_holds(patch: Patch) -> None:
    def mark(original: Any, marking: Marking, budget: int) -> int:
        marking._marked |= {one.id for one in marking._front if isinstance(one, BeamGroup)}
        work: int = original(marking, budget)
        return work

    around(patch, Marking, "mark", mark)


@mutant(2)
def a_leak_is_released_too_often(patch: Patch) -> None:
    def check_pages(original: Any, heap: HeapState, group: int, low: int, high: int, *tree: Any) -> Any:
        found = original(heap, group, low, high, *tree)
        for leak in found.leaks:
            heap.groups[group].release([(leak.first, leak.pages)])
        return found

    around(patch, collector_module, "check_pages", check_pages)


@mutant(2)
def a_leak_is_released_once_only(patch: Patch) -> None:
    patch.setattr(trace, "range", lambda _: [0], raising=False)


@mutant(2)
def a_count_too_low_stays(patch: Patch) -> None:
    patch.setattr(Pages, "restore", lambda *_: None)


@mutant(2)
def the_sweep_forgets_parked_turns(patch: Patch) -> None:
    def held(original: Any, heap: HeapState, *args: Any) -> Any:
        sequences = heap.sequences
        heap.sequences = {number: one for number, one in sequences.items() if one.slot >= 0}
        try:
            return original(heap, *args)
        finally:
            heap.sequences = sequences

    around(patch, trace, "references_held", held)


@mutant(2)
def the_sweep_forgets_work_in_flight(patch: Patch) -> None:
    def held(original: Any, heap: HeapState, *args: Any) -> Any:
        holds, heap.held = heap.held, []
        try:
            return original(heap, *args)
        finally:
            heap.held = holds

    around(patch, trace, "references_held", held)


# ---- generations


@mutant(6)
def promotion_forgets_the_columns(patch: Patch) -> None:
    patch.setattr(HeapState, "_moved_generation", lambda heap, node: heap.tree.order.renew(node))


@mutant(6)
def a_promoted_leaf_is_lost_to_reclaim(patch: Patch) -> None:
    def moved(original: Any, heap: HeapState, node: Any) -> None:
        original(heap, node)
        heap.tree.order._queued.pop(node.id, None)

    around(patch, HeapState, "_moved_generation", moved)
