"""Reclaim: leaf first, oldest first, no more than asked, and behind a live leaf only where that gives pages."""

import numpy as np

from infergc.heap.residency import BOUNDS, Residency
from samples.heaps import P, begin, compute, finished, open_stream, pages_held, small_heap


def test_the_oldest_leaf_goes_first_and_no_more_than_is_short() -> None:
    heap = small_heap(pages=10)
    finished(heap, range(4 * P))
    finished(heap, range(100, 100 + 4 * P))
    compute(heap, open_stream(heap, range(200, 264)), 4 * P)
    assert heap.counters.evicted == 2
    old, young = open_stream(heap, range(64)), open_stream(heap, range(100, 164))
    assert (heap.share_prefix(old, 64), heap.share_prefix(young, 64)) == (2 * P, 4 * P)
    heap.check()


def test_a_hit_makes_a_prefix_young() -> None:
    heap = small_heap(pages=9)
    finished(heap, range(4 * P))
    finished(heap, range(100, 100 + 4 * P))
    reader = open_stream(heap, range(4 * P))
    assert heap.share_prefix(reader, 4 * P - 1) == 4 * P - 1
    compute(heap, reader, 4 * P, start=4 * P - 1)
    heap.close(reader)
    compute(heap, open_stream(heap, range(200, 264)), 5 * P)
    old, young = open_stream(heap, range(64)), open_stream(heap, range(100, 164))
    assert (heap.share_prefix(old, 64), heap.share_prefix(young, 64)) == (4 * P, 0)


def test_a_refusal_changes_nothing_and_evicts_nothing() -> None:
    heap = small_heap(pages=8)
    finished(heap, range(4 * P))
    holder = open_stream(heap, range(100, 164))
    compute(heap, holder, 3 * P)
    wants = [(open_stream(heap, range(200, 264)), 3 * P), (open_stream(heap, range(300, 364)), 3 * P)]
    assert not heap.reserve(wants)
    assert heap.counters.evicted == 0
    assert [pages_held(heap, sequence) for sequence, _ in wants] == [[], []]
    assert heap.reserve(wants[:1])
    heap.check()


def test_fragments_never_refuse() -> None:
    heap = small_heap(pages=64, slots=64, caching=False)
    singles = [open_stream(heap, range(P)) for _ in range(64)]
    assert heap.reserve([(sequence, P) for sequence in singles])
    for sequence in singles[::2]:
        heap.close(sequence)
    big = open_stream(heap, range(32 * P))
    assert heap.reserve([(big, 32 * P)])
    assert sorted(pages_held(heap, big)) == [page for page in range(64) if page % 2 == 0]
    heap.check()


def test_what_a_window_left_behind_a_live_leaf_is_reclaimed() -> None:
    heap = small_heap(P, pages=12)
    long = open_stream(heap, range(100, 200))
    compute(heap, long, 9 * P)
    heap.slide(long, 9 * P)
    assert heap.stats()[0].cached == 8
    assert heap.reserve([(open_stream(heap, range(300, 400)), 8 * P)])
    assert not long.publishing
    heap.check()


def test_only_a_leaf_that_hides_cached_pages_is_opened() -> None:
    heap = small_heap(P, pages=12)
    short = open_stream(heap, range(64))
    compute(heap, short, 2 * P)
    long = open_stream(heap, range(100, 200))
    compute(heap, long, 9 * P)
    heap.slide(long, 9 * P)
    assert heap.reserve([(open_stream(heap, range(300, 400)), 3 * P)])
    heap.check()
    assert short.publishing
    assert short.sealed == 2
    assert not long.publishing


def test_an_exposed_sequence_goes_on_in_private() -> None:
    heap = small_heap(2 * P, pages=12)
    long = open_stream(heap, range(100, 200))
    compute(heap, long, 9 * P)
    heap.slide(long, 9 * P)
    other = open_stream(heap, range(300, 400))
    assert heap.reserve([(other, 8 * P)])
    heap.close(other)
    compute(heap, long, 11 * P, start=9 * P)
    heap.slide(long, 11 * P)
    probe = open_stream(heap, range(100, 200))
    assert heap.share_prefix(probe, 100) == 2 * P  # 5 pages were short; 2 that it still held went with them
    heap.check()


def test_pages_in_flight_are_neither_granted_nor_lost() -> None:
    heap = small_heap(pages=4, caching=False)
    sequence = open_stream(heap, range(64))
    step, _ = begin(heap, sequence, 0, 4 * P)
    heap.close(sequence)
    assert heap.stats()[0].in_transit == 4
    late = open_stream(heap, range(64))
    assert not heap.reserve([(late, 1)])
    heap.check()
    heap.complete(step)
    assert heap.reserve([(late, 4 * P)])
    heap.check()


def test_a_page_is_counted_with_the_steps_since_it_was_published() -> None:
    """Two pages of an edge are published 30 steps after the others; all are reclaimed 100 steps later."""
    heap = small_heap(pages=8)
    first = open_stream(heap, range(4 * P))
    compute(heap, first, 2 * P)  # published before step 1
    heap.planning, heap.completed = 31, 30
    step, _ = begin(heap, first, 2 * P, 4 * P)
    heap.complete(step)
    heap.publish(first, 4 * P)  # before step 32
    heap.close(first)
    heap.planning, heap.completed = 132, 131
    assert heap.reserve([(open_stream(heap, range(100, 164)), 8 * P)])
    young = heap.reclaimer.residency.counts[0]
    assert dict(zip((*BOUNDS, "more"), young, strict=True)) == {**dict.fromkeys((*BOUNDS, "more"), 0), 256: 4}
    assert heap.reclaimer.residency.steps[0] == 2 * 131 + 2 * 100
    assert heap.counters.evicted_for == {"room": 4}


def test_each_page_of_an_edge_falls_in_its_own_bucket() -> None:
    residency = Residency()
    residency.add(1, np.array([2, 0, 1], np.int32), np.array([10, 40, 0], np.int32), 74)
    assert residency.counts[1] == [0, 2, 1, 0, 0, 0, 0, 0, 0]
    assert residency.steps == [0, 74 + 64 + 34, 0]
