"""The collector: leaks and lost counts found and mended, generations, budgets."""

import numpy as np
import pytest

from infergc.heap.collector import Collector, Triggers
from infergc.heap.generations import SURVIVOR, TENURED, YOUNG, Ages
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.provenance import Place, taken_by
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.generational import Generational
from samples.heaps import P, begin, compute, finished, open_stream, pages_held, small_heap

ENOUGH = 10**9
PROMPT, OTHER = range(3 * P), range(100, 100 + 3 * P)


def collector_of(heap: Heap, **triggers: float) -> Collector:
    return Collector(heap, Triggers(**triggers))


def aging_heap(young: int = 4, survivor: int = 8, tenured: int = 16, pages: int = 64) -> Heap:
    ages = Ages(young, survivor, tenured)
    return Heap(HeapConfig((GroupSpec("all", 1, None, pages),), P, 8, ages=ages), Generational())


def pass_steps(heap: Heap, steps: int) -> None:
    """Steps go by in which a sequence of no account is computed."""
    for _ in range(steps):
        sequence = open_stream(heap, [7], "nobody")
        step, _ = begin(heap, sequence, 0, 1)
        heap.complete(step)
        heap.close(sequence)


def generation_of(heap: Heap, tokens: range) -> int:
    (column,) = {
        heap.groups[0].generation[page].item()
        for node in heap.tree.nodes()
        if node.tokens.view()[0] == tokens[0]
        for page in node.pages[0].view()
    }
    return column


# ---- leaks


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    heap = small_heap(None, 2 * P)
    sequence = open_stream(heap, PROMPT)
    compute(heap, sequence, 3 * P)
    branch = heap.fork(sequence, "branch")
    begin(heap, branch, 3 * P, 3 * P)
    heap.close(sequence)
    assert not collector_of(heap).verify()
    heap.check()


@pytest.mark.parametrize("online", [False, True])
def test_a_leaked_reference_is_reported_and_reclaimed(online: bool) -> None:
    heap = small_heap()
    collector = collector_of(heap)
    sequence = open_stream(heap, PROMPT)
    compute(heap, sequence, 3 * P, publish=False)
    first, second = pages_held(heap, sequence)[:2]
    heap.groups[0].retain([(first, 2)], taken_by(sequence.id, Place.SHARE))  # and no object remembers
    heap.close(sequence)
    assert heap.stats()[0].free == 62
    if online:
        while collector.counters.major == 0:
            collector.major(1)
        found = collector.take_findings()
    else:
        found = collector.verify()
    assert str(found) == f"group g0: pages {first} to {second} leaked; last taken by s in share"
    assert collector.counters.leaks == 2
    heap.check()
    assert heap.stats()[0].free == 64
    assert not collector.verify()


def test_a_leak_on_a_page_that_is_held_is_told_from_what_holds_it() -> None:
    heap = small_heap()
    sequence = open_stream(heap, PROMPT)
    compute(heap, sequence, 3 * P)
    page = pages_held(heap, sequence)[1]
    for _ in range(3):
        heap.groups[0].retain([(page, 1)], taken_by(sequence.id, Place.FORK))
    found = collector_of(heap).verify()
    assert str(found) == f"group g0: page {page} leaked 3 times; last taken by s in fork"
    heap.check()
    assert heap.groups[0].count[page] == 2, "the sequence's and the prefix tree's"


def test_a_count_that_is_too_low_is_raised_before_the_page_is_given_to_another() -> None:
    heap = small_heap()
    sequence = open_stream(heap, PROMPT)
    compute(heap, sequence, 3 * P, publish=False)
    page = pages_held(heap, sequence)[0]
    heap.groups[0].release([(page, 1)])  # one time too many: it lies on the free masks
    found = collector_of(heap).verify()
    assert found.corrupt == [
        f"group g0: pages {page} to {page} count 1 references too few; they may have been handed out twice"
    ]
    heap.check()


def test_a_page_that_the_tree_forgot_is_a_leak() -> None:
    heap = small_heap()
    finished(heap, PROMPT)
    (node,) = heap.tree.nodes()
    node.parent.remove_child(heap.tree.key(node))
    heap.tree.roots.clear()
    found = collector_of(heap).verify()
    assert [(leak.pages, leak.references) for leak in found.leaks] == [(3, 1)]
    assert heap.groups[0].space.free == 64


def test_garbage_that_trial_deletion_never_saw_is_found_by_marking() -> None:
    heap = small_heap()
    collector = collector_of(heap)
    session, sequence = heap.session("chat"), open_stream(heap, PROMPT)
    heap.join(session, sequence)
    compute(heap, sequence, 3 * P)
    heap.graph.unroot(session)
    heap.close(sequence)
    heap.graph.candidates.clear()  # as if a write barrier had been forgotten
    heap.check()
    found = collector.verify()
    assert sorted(found.garbage) == [f"garbage: Sequence {sequence.id} of s", f"garbage: Session {session.id} of chat"]
    heap.check()
    assert (heap.stats()[0].cached, len(heap.graph.objects)) == (3, 0)


def test_steps_in_flight_and_parked_turns_hold_their_pages() -> None:
    heap = small_heap(caching=False)
    sequence = open_stream(heap, PROMPT)
    step, _ = begin(heap, sequence, 0, 3 * P)
    heap.close(sequence)
    collector = collector_of(heap)
    assert not collector.verify()
    assert heap.stats()[0].in_transit == 3
    heap.complete(step)
    assert not collector.verify()


# ---- generations


def test_who_is_served_moves_up_and_who_is_forgotten_moves_down() -> None:
    heap = aging_heap()
    collector = collector_of(heap, minor_pages=1, major_pages=1)
    finished(heap, PROMPT)
    finished(heap, OTHER)
    seen = []
    for _ in range(3):
        sequence = open_stream(heap, [*PROMPT, 1])
        heap.share_prefix(sequence, 3 * P)
        heap.close(sequence)
        pass_steps(heap, 9)
        collector.collect(ENOUGH, idle=True)
        collector.major(ENOUGH)
        heap.check()
        seen.append((generation_of(heap, PROMPT), generation_of(heap, OTHER)))
    assert seen == [(SURVIVOR, YOUNG), (TENURED, YOUNG), (TENURED, YOUNG)]
    for _ in range(3):
        pass_steps(heap, 17)
        collector.major(ENOUGH)
    assert generation_of(heap, PROMPT) == YOUNG
    assert heap.tree.generations.demoted[YOUNG] == 1


def test_a_flood_of_the_young_does_not_displace_what_was_served() -> None:
    heap = aging_heap(pages=16)
    finished(heap, PROMPT)
    sequence = open_stream(heap, [*PROMPT, 1])
    heap.share_prefix(sequence, 3 * P)
    heap.asked(sequence, 3 * P)
    heap.close(sequence)
    for flood in range(20):
        finished(heap, range(1000 + 100 * flood, 1000 + 100 * flood + 4 * P))
    again = open_stream(heap, [*PROMPT, 1])
    assert heap.share_prefix(again, 3 * P) == 3 * P


def test_a_minor_collection_costs_what_was_born_not_what_there_is() -> None:
    heap = small_heap(pages=4096)
    collector = collector_of(heap, minor_pages=1)
    work = []
    for batch in range(8):
        for at in range(16):
            finished(heap, range(1000 * at + 100_000 * batch, 1000 * at + 100_000 * batch + 2 * P))
        pass_steps(heap, 300)
        before = collector.counters.units["minor"]
        collector.collect(ENOUGH)
        work.append(collector.counters.units["minor"] - before)
    assert work == [16] * 8
    assert len(heap.tree.nodes()) == 128


def least_of_a_sweep(heap: Heap) -> int:
    """Units: to look at who holds the pages of a slice costs as much for few, so there are that many."""
    return heap.table_units(0) + 2048 // 256


def test_no_slice_does_more_than_its_budget() -> None:
    heap = small_heap(pages=16384)
    collector = collector_of(heap)
    for at in range(100):
        finished(heap, range(1000 * at, 1000 * at + 2 * P))
    pass_steps(heap, 300)
    for budget in (1, 10, 30):
        before, slices = collector.counters.major, []
        while collector.counters.major == before:
            slices.append(collector.major(budget))
        assert max(slices) <= max(budget, least_of_a_sweep(heap))
        assert len(slices) > 1


@pytest.mark.parametrize("busy", ["minor", "cycles"])
def test_a_slice_of_the_sweep_is_never_added_to_other_work_and_has_its_turn_all_the_same(busy: str) -> None:
    heap = small_heap(pages=16384)
    collector = collector_of(heap, minor_pages=1 if busy == "minor" else ENOUGH, major_pages=1)
    pauses: list[dict[str, int]] = []
    while collector.counters.major < 2:
        finished(heap, range(1000 * len(pauses), 1000 * len(pauses) + 2 * P))
        pass_steps(heap, 5)
        if busy == "cycles":
            session, sequence = heap.session("chat"), open_stream(heap, PROMPT)
            heap.join(session, sequence)
            heap.graph.unroot(session)
            heap.close(sequence)
        before = collector.counters.units.copy()
        collector.collect(20)
        pauses.append({kind: units - before[kind] for kind, units in collector.counters.units.items()})
        assert len(pauses) < 400, "the page sweep starves"
    slices = [pause for pause in pauses if pause["major"] > 20]
    assert len(slices) >= 2 * 16384 // 2048
    assert all(sum(pause.values()) == pause["major"] <= least_of_a_sweep(heap) for pause in slices)
    assert all(sum(pause.values()) <= 20 for pause in pauses if pause not in slices)
    assert sum(pause[busy] for pause in pauses) >= len(pauses) - len(slices) - 1, "nor does the other work"
    heap.check()


def test_an_idle_collector_comes_to_rest() -> None:
    heap = small_heap(pages=1024)
    collector = collector_of(heap)
    finished(heap, PROMPT)
    pauses = 0
    while collector.collect(20, idle=True):
        pauses += 1
        assert pauses < 1000
    assert collector.counters.major == 1
    assert collector.collect(20, idle=True) == 0


def test_a_crowded_heap_collects_twice_as_often() -> None:
    heap = small_heap(pages=64)
    collector = collector_of(heap, minor_pages=6, watermark=0.5)
    finished(heap, PROMPT)
    collector.collect(ENOUGH)
    assert collector.counters.minor == 0
    held = open_stream(heap, range(500, 500 + 40 * P))
    assert heap.reserve([(held, 40 * P)])
    collector.collect(ENOUGH)
    assert collector.counters.minor == 1


def test_pages_in_the_columns_are_of_the_generation_of_their_node() -> None:
    heap = aging_heap()
    finished(heap, PROMPT)
    sequence = open_stream(heap, [*PROMPT[: 2 * P], *OTHER])
    heap.share_prefix(sequence, 2 * P)  # splits the node
    pass_steps(heap, 5)
    heap.tree.generations.look(YOUNG, heap.planning, ENOUGH)
    by_node = {page: node.generation for node in heap.tree.nodes() for page in node.pages[0].view().tolist()}
    assert set(by_node.values()) == {YOUNG, SURVIVOR}
    assert all(heap.groups[0].generation[page] == generation for page, generation in by_node.items())
    assert np.count_nonzero(heap.groups[0].sealed) == len(by_node)


def test_a_prefix_that_was_left_young_is_looked_at_again_once_it_is_served() -> None:
    heap = aging_heap()
    finished(heap, PROMPT)
    pass_steps(heap, 5)
    heap.tree.generations.look(YOUNG, heap.planning, ENOUGH)
    assert generation_of(heap, PROMPT) == YOUNG
    pass_steps(heap, 20)
    sequence = open_stream(heap, [*PROMPT, 1])
    heap.share_prefix(sequence, 3 * P)
    heap.close(sequence)
    pass_steps(heap, 5)
    heap.tree.generations.look(YOUNG, heap.planning, ENOUGH)
    assert generation_of(heap, PROMPT) == SURVIVOR


def test_the_work_that_is_told_is_the_work_that_is_counted() -> None:
    heap = small_heap(pages=1024)
    collector = collector_of(heap, minor_pages=1)
    assert sum(collector.counters.units.values()) == 0
    told = 0
    for at in range(30):
        finished(heap, range(100 * at, 100 * at + 2 * P))
        pass_steps(heap, 10)
        told += collector.collect(5)
    while work := collector.collect(5, idle=True):
        told += work
    assert told == sum(collector.counters.units.values()) > 0


def test_verify_traces_though_a_collection_is_at_its_pages() -> None:
    heap = small_heap(pages=16384)
    collector = collector_of(heap)
    session, sequence = heap.session("chat"), open_stream(heap, PROMPT)
    heap.join(session, sequence)
    compute(heap, sequence, 3 * P)
    while collector._marking is None:
        collector.major(1)
    while collector._marking is not None:
        collector.major(1)
    heap.graph.unroot(session)
    heap.close(sequence)
    heap.graph.candidates.clear()  # as if a write barrier had been forgotten
    assert len(collector.verify().garbage) == 2
