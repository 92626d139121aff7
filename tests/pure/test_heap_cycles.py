"""Cycles of heap objects: every shape that can arise, and trial deletion against plain reachability."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.heap import cycles
from infergc.heap.errors import HeapCorruption
from infergc.heap.graph import ObjectGraph
from infergc.heap.heap import Heap
from infergc.heap.objects import HeapObject, Sequence
from infergc.heap.trace import Marking
from samples.heaps import P, begin, compute, open_stream, pages_held, small_heap

ENOUGH = 10**9


def graph_of(edges: list[tuple[int, int]], objects: int) -> tuple[ObjectGraph, list[HeapObject], list[int]]:
    """Rooted objects 0 … objects - 1 that hold each other; the list in the end gathers the ids of those freed."""
    freed: list[int] = []
    graph = ObjectGraph(lambda one: freed.append(one.id))
    made = [HeapObject(number, f"o{number}") for number in range(objects)]
    for one in made:
        graph.add(one)
    for holder, held in dict.fromkeys(edges):
        graph.hold(made[holder], made[held])
    return graph, made, freed


def reachable(graph: ObjectGraph) -> set[int]:
    found, front = set(graph.rooted), list(graph.rooted.values())
    while front:
        for held in front.pop().holds.values():
            if held.id not in found:
                found.add(held.id)
                front.append(held)
    return found


SHAPES = {
    "self-loop": ([(0, 0)], 1),
    "pair": ([(0, 1), (1, 0)], 2),
    "ring": ([(at, (at + 1) % 5) for at in range(5)], 5),
    "two rings that share an object": ([(0, 1), (1, 0), (1, 2), (2, 1)], 3),
    "a chain that ends in a ring": ([(0, 1), (1, 2), (2, 3), (3, 2)], 4),
    "a ring with a tail": ([(0, 1), (1, 0), (1, 2), (2, 3)], 4),
    "nested groups": ([(0, 1), (1, 0), (1, 2), (2, 1), (1, 3), (3, 1), (2, 4), (4, 2)], 5),
    "everyone holds everyone": ([(one, other) for one in range(6) for other in range(6)], 6),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cycle_that_nobody_holds_goes(shape: str) -> None:
    edges, objects = SHAPES[shape]
    graph, made, freed = graph_of(edges, objects)
    for one in made:
        graph.unroot(one)
    assert len(freed) < objects, "counts alone free a part at most"
    cycles.collect(graph, ENOUGH)
    assert sorted(freed) == list(range(objects))
    assert not graph.objects
    assert not graph.candidates


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kept", range(6))
def test_a_cycle_that_somebody_holds_stays(shape: str, kept: int) -> None:
    edges, objects = SHAPES[shape]
    graph, made, _ = graph_of(edges, objects)
    kept %= objects
    for one in made:
        if one.id != kept:
            graph.unroot(one)
    cycles.collect(graph, ENOUGH)
    assert set(graph.objects) == reachable(graph)
    assert kept in graph.objects


def test_a_chain_needs_no_collector() -> None:
    """However long: freeing does not recurse."""
    graph, made, freed = graph_of([(at, at + 1) for at in range(4999)], 5000)
    for one in reversed(made):
        graph.unroot(one)
    assert freed == list(range(5000))
    assert not graph.candidates


def test_a_long_ring_goes_without_recursion() -> None:
    graph, made, freed = graph_of([(at, (at + 1) % 5000) for at in range(5000)], 5000)
    for one in made:
        graph.unroot(one)
    cycles.collect(graph, ENOUGH)
    assert len(freed) == 5000


def test_a_candidate_that_somebody_took_again_stays() -> None:
    """Resurrection: between the lost reference and the collection a new one is made."""
    graph, made, freed = graph_of([(0, 1), (1, 0)], 2)
    graph.unroot(made[1])
    graph.unroot(made[0])
    graph.root(made[1])
    cycles.collect(graph, ENOUGH)
    assert freed == []
    graph.unroot(made[1])
    cycles.collect(graph, ENOUGH)
    assert sorted(freed) == [0, 1]


def test_a_small_budget_gets_there_in_the_end() -> None:
    graph, made, freed = graph_of([edge for at in range(0, 40, 2) for edge in ((at, at + 1), (at + 1, at))], 40)
    for one in made:
        graph.unroot(one)
    pauses = 0
    while graph.candidates:
        _, work = cycles.collect(graph, 1)
        assert 0 < work <= 6
        pauses += 1
    assert len(freed) == 40
    assert pauses == 20


@pytest.mark.parametrize("barrier", [True, False])
def test_a_reference_that_moves_behind_the_front_is_followed(barrier: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yuasa's deletion barrier: without it, an object that goes over to a holder that was seen already is swept."""
    graph, (old, new, moved), _ = graph_of([(0, 2)], 3)
    graph.unroot(moved)
    if not barrier:
        monkeypatch.setattr(graph, "take_drops", list)
    marking = Marking(graph)
    marking.mark(1)
    graph.hold(new, moved)
    graph.let_go(old, moved)
    marking.mark(ENOUGH)
    marking.sweep()
    assert (moved.id in graph.objects) == barrier


def test_garbage_found_in_several_looks_is_freed_as_one() -> None:
    count = 40
    graph, ring, freed = graph_of([(at, (at + 1) % count) for at in range(count)], count + 1)
    for one in ring[:count]:
        graph.unroot(one)
    graph.candidates.clear()  # as if a write barrier had been forgotten
    marking = Marking(graph)
    marking.mark(ENOUGH)
    looks = [marking.look(1) for _ in range(7)]
    assert looks == [1, 1, 1, 1, 1, 1, 0], "8 objects a unit"
    assert marking.sweep() == ring[:count]
    assert graph.objects == {ring[count].id: ring[count]}
    assert len(freed) == count


some_edges = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=24)


class Walk:
    """Random deeds on a graph, a marking among them."""

    def __init__(self, graph: ObjectGraph, chance: Random) -> None:
        self.graph = graph
        self.chance = chance
        self.marking: Marking | None = None

    def unroot(self) -> None:
        if self.graph.rooted:
            self.graph.unroot(self.graph.rooted[self.chance.choice(sorted(self.graph.rooted))])

    def let_go(self) -> None:
        holders = [one for one in self.graph if one.holds]
        if holders:
            one = self.chance.choice(holders)
            self.graph.let_go(one, one.holds[self.chance.choice(sorted(one.holds))])

    def collect(self) -> None:
        cycles.collect(self.graph, 2)

    def mark(self, budget: int = 2) -> None:
        self.marking = self.marking or Marking(self.graph)
        if self.marking.mark(budget) < budget and self.marking.look(1) < 1:
            self.marking.sweep()
            self.marking = None


@given(some_edges, st.lists(st.sampled_from(("unroot", "collect", "let_go", "mark")), max_size=40), st.randoms())
def test_what_is_left_is_what_roots_reach(edges: list[tuple[int, int]], deeds: list[str], chance: Random) -> None:
    """Whatever happens in between, an object that roots reach is never freed, and in the end nothing else is left."""
    graph, _, _ = graph_of(edges, 8)
    walk = Walk(graph, chance)
    for deed in deeds:
        getattr(walk, deed)()
        assert reachable(graph) <= set(graph.objects)
        for left in graph:
            assert left.refs == left.roots + sum(left.id in other.holds for other in graph)
    while walk.marking is not None:
        walk.mark(ENOUGH)
    cycles.collect(graph, ENOUGH)
    assert set(graph.objects) == reachable(graph)


def test_misuse_is_told() -> None:
    graph, (one, other), _ = graph_of([(0, 1)], 2)
    with pytest.raises(HeapCorruption, match="object 0 cannot hold 1"):
        graph.hold(one, other)
    graph.unroot(one)
    with pytest.raises(HeapCorruption, match="no root to drop"):
        graph.unroot(one)


# ---- sequences, groups and sessions


def beams(heap: Heap, count: int) -> tuple[object, list[Sequence]]:
    """A beam group of branches of one text, which computed its pages."""
    group, first = heap.beam_group("r"), open_stream(heap, range(3 * P))
    compute(heap, first, 3 * P)
    branches = [first, *(heap.fork(first, "r") for _ in range(count - 1))]
    for each in branches:
        heap.join(group, each)
        heap.graph.unroot(each)
    heap.check()
    return group, branches


def test_a_losing_beam_goes_at_once_and_shared_pages_stay() -> None:
    heap = small_heap()
    group, (first, second, third) = beams(heap, 3)
    assert heap.reserve([(third, 4 * P)])
    heap.leave(group, third)
    heap.check()
    assert third.id not in heap.graph.objects
    assert heap.stats()[0].live == 3
    assert pages_held(heap, first) == pages_held(heap, second)


def test_a_cancelled_beam_leaves_a_cycle_that_trial_deletion_finds() -> None:
    heap = small_heap()
    group, branches = beams(heap, 4)
    stranger = open_stream(heap, [*range(2 * P), 1])
    heap.share_prefix(stranger, 2 * P)
    heap.graph.unroot(group)
    heap.check()
    assert len(heap.sequences) == 5, "no count frees them"
    assert heap.collect_cycles(ENOUGH)
    heap.check()
    assert list(heap.sequences) == [stranger.id]
    assert heap.stats()[0].live == 2, "what the stranger shares stays"
    assert (heap.counters.cycles, heap.counters.cycle_objects) == (1, 5)
    assert all(branch.slot < 0 for branch in branches)


def test_pages_of_a_cancelled_beam_outlive_the_step_that_reads_them() -> None:
    """A late token: the step is in flight when its group goes."""
    heap = small_heap(caching=False)
    group, (first, second) = beams(heap, 2)
    step, _ = begin(heap, second, 3 * P, 3 * P + 1)
    heap.graph.unroot(group)
    heap.collect_cycles(ENOUGH)
    heap.check()
    assert not heap.sequences
    assert heap.stats()[0].in_transit == 4
    heap.complete(step)
    heap.check()
    assert heap.stats()[0].free == 64
    assert first.slot < 0


def dropped_session(heap: Heap) -> Callable[[], int]:
    """A session that is closed while its request runs; the request then ends. Returns how to count what is left."""
    session, sequence = heap.session("chat"), open_stream(heap, range(2 * P))
    heap.join(session, sequence)
    compute(heap, sequence, 2 * P)
    heap.graph.unroot(session)
    heap.close(sequence)
    heap.check()
    return lambda: len(heap.graph.objects)


def test_a_dropped_session_leaves_a_cycle() -> None:
    heap = small_heap()
    left = dropped_session(heap)
    assert left() == 2
    assert heap.stats()[0].live == 2, "without trial deletion it stays for ever"
    heap.collect_cycles(ENOUGH)
    heap.check()
    assert left() == 0
    assert heap.stats()[0].cached == 2


def test_a_sequence_may_leave_a_session_that_it_alone_kept() -> None:
    """A session is deleted while its request runs, then the request is aborted."""
    heap = small_heap()
    session, sequence = heap.session("chat"), open_stream(heap, range(2 * P))
    heap.join(session, sequence)
    heap.graph.unroot(session)
    heap.leave(session, sequence)
    heap.check()
    assert list(heap.graph.objects.values()) == [sequence]
    heap.close(sequence)
    assert not heap.graph.objects


@pytest.mark.parametrize("caching", [False, True])
def test_a_turn_whose_window_slid_past_what_is_sealed_is_parked(caching: bool) -> None:
    heap = small_heap(None, P, caching=caching)
    session, sequence = heap.session("chat"), open_stream(heap, range(5 * P))
    heap.join(session, sequence)
    compute(heap, sequence, 2 * P)
    compute(heap, sequence, 5 * P, 2 * P, publish=False)
    heap.slide(sequence, 5 * P)
    heap.close(sequence)
    heap.check()
    sealed = 2 if caching else 0
    assert [sum(pages for _, pages in extents) for extents in sequence.parked] == [sealed, 0]
    heap.leave(session, sequence)
    heap.check()
    assert heap.stats()[1].free + heap.stats()[1].cached == 64


@pytest.mark.parametrize("in_flight", [False, True])
def test_a_parked_turn_whose_leaf_is_taken_out_of_the_tree_gives_it_back(in_flight: bool) -> None:
    """What no later turn can find is not kept: with a window, reclaim may open the way through a parked turn's leaf."""
    heap = small_heap(P, pages=8)
    session, sequence = heap.session("chat"), open_stream(heap, range(4 * P + 1))
    heap.join(session, sequence)
    compute(heap, sequence, 4 * P)
    heap.slide(sequence, 4 * P)
    step, _ = begin(heap, sequence, 4 * P, 4 * P + 1)
    if not in_flight:
        heap.complete(step)
    heap.close(sequence)
    heap.check()
    other = open_stream(heap, range(100, 100 + 6 * P))
    assert heap.reserve([(other, 6 * P)])
    heap.check()
    heap.complete(step)
    heap.check()
    assert pages_held(heap, other)
    assert sequence.parked == ([],)


def test_a_parked_turn_keeps_its_pages_from_reclaim_until_the_session_goes() -> None:
    heap = small_heap(pages=8)
    session, sequence = heap.session("chat"), open_stream(heap, range(4 * P))
    heap.join(session, sequence)
    compute(heap, sequence, 4 * P)
    heap.close(sequence)
    assert (sequence.slot, heap.stats()[0].live) == (-1, 4)
    other = open_stream(heap, range(100, 100 + 5 * P))
    assert not heap.reserve([(other, 5 * P)])
    again = open_stream(heap, [*range(4 * P), 9])
    assert heap.share_prefix(again, 4 * P) == 4 * P
    heap.close(again)
    heap.leave(session, sequence)
    heap.check()
    assert heap.reserve([(other, 5 * P)])


def test_a_group_inside_a_session_goes_with_it() -> None:
    heap = small_heap()
    group, branches = beams(heap, 3)
    session = heap.session("chat")
    for branch in branches:
        heap.join(session, branch)
    heap.graph.unroot(session)
    heap.graph.unroot(group)
    heap.collect_cycles(ENOUGH)
    heap.check()
    assert not heap.graph.objects
