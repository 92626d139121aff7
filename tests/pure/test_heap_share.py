"""Sharing: forks, parts of a page, windows, truncation, and the write barrier between them."""

import numpy as np

from infergc.heap.moves import Move
from samples.heaps import P, begin, compute, finished, open_stream, pages_held, small_heap


def test_a_fork_shares_every_page_and_either_side_copies_the_tail() -> None:
    heap = small_heap()
    trunk = open_stream(heap, range(64))
    compute(heap, trunk, 20)
    branch = heap.fork(trunk, "branch")
    assert branch is not None
    shared = pages_held(heap, trunk)
    assert pages_held(heap, branch) == shared
    assert heap.groups[0].space.free == 64 - 3
    (move,) = compute(heap, branch, 24, start=20)
    assert (move.kind, move.group, move.src, move.tokens) == ("copy", 0, shared[2], 20 % P)
    assert pages_held(heap, branch) == [*shared[:2], move.dst]
    assert compute(heap, trunk, 24, start=20) == ()  # alone with its tail by now
    heap.close(trunk)
    heap.close(branch)
    assert heap.stats()[0].live == 0


def test_both_sides_of_a_fork_grow_in_one_reservation() -> None:
    heap = small_heap(None, None)
    trunk = open_stream(heap, range(64))
    compute(heap, trunk, 20)
    branch = heap.fork(trunk, "branch")
    assert branch is not None
    assert heap.reserve([(trunk, 21), (branch, 21)])
    tails = {pages_held(heap, trunk)[-1], pages_held(heap, branch)[-1]}
    assert len(tails) == 2
    heap.check()


def test_a_fork_at_a_page_border_copies_nothing() -> None:
    heap = small_heap()
    trunk = open_stream(heap, range(64))
    compute(heap, trunk, 2 * P)
    branch = heap.fork(trunk, "branch")
    assert branch is not None
    assert compute(heap, branch, 3 * P, start=2 * P) == ()
    assert compute(heap, trunk, 3 * P, start=2 * P) == ()


def test_forks_cost_no_pages_but_their_tails() -> None:
    heap = small_heap(pages=40)
    trunk = open_stream(heap, range(200))
    compute(heap, trunk, 20 * P + 3)
    branches = [heap.fork(trunk, f"beam-{at}") for at in range(4)]
    for branch in branches:
        assert branch is not None
        compute(heap, branch, 20 * P + 4, start=20 * P + 3, publish=False)
    assert heap.stats()[0].live == 20 + 1 + 4


def test_part_of_a_page_is_copied_before_it_is_written() -> None:
    heap = small_heap(None, None)
    finished(heap, range(3 * P))
    sequence = open_stream(heap, [*range(2 * P + 5), 99, 98, 97])
    assert heap.share_prefix(sequence, 2 * P + 7) == 2 * P + 5
    shared = [pages_held(heap, sequence, group) for group in range(2)]
    slots, lengths = np.array([sequence.slot], np.int32), np.array([2 * P + 6], np.int32)
    assert heap.crossing(slots, lengths).all()  # though it stays inside the page
    step, moves = begin(heap, sequence, 2 * P + 5, 2 * P + 8)
    assert [(move.group, move.src, move.tokens) for move in moves] == [(0, shared[0][2], 5), (1, shared[1][2], 5)]
    heap.check()
    heap.complete(step)
    heap.check()
    again = open_stream(heap, range(3 * P))
    assert heap.share_prefix(again, 3 * P) == 3 * P  # the original is whole


def test_a_copy_keeps_its_source_until_it_was_made() -> None:
    heap = small_heap(pages=4)
    finished(heap, range(2 * P))
    sequence = open_stream(heap, [*range(P + 4), 99])
    assert heap.share_prefix(sequence, P + 4) == P + 4
    source = pages_held(heap, sequence)[1]
    assert heap.reserve([(sequence, P + 5)])
    assert not heap.reserve([(open_stream(heap, range(100, 200)), 2 * P)])  # 1 free, and the source is held
    heap.check()
    (move,) = heap.take_moves()
    assert isinstance(move, Move)
    assert move.src == source
    rows = (np.array([number], np.int32) for number in (sequence.slot, P + 4, 1))
    heap.begin_step(*rows)
    heap.complete(heap.planning - 1)
    assert heap.reserve([(open_stream(heap, range(100, 200)), 2 * P)])
    heap.check()


def test_truncation_into_a_published_page_copies_it_on_the_next_write() -> None:
    heap = small_heap()
    sequence = open_stream(heap, range(64))
    compute(heap, sequence, 3 * P)
    published = pages_held(heap, sequence)
    heap.truncate(sequence, 2 * P + 3)
    assert sequence.sealed == 2
    heap.check()
    (move,) = compute(heap, sequence, 3 * P, start=2 * P + 3, publish=False)
    assert (move.src, move.tokens) == (published[2], 3)
    heap.publish(sequence, 3 * P)  # the same tokens again: back to the page that is known
    assert pages_held(heap, sequence) == published
    heap.check()


def test_truncation_inside_a_private_page_copies_nothing() -> None:
    heap = small_heap()
    sequence = open_stream(heap, range(64))
    compute(heap, sequence, 2 * P + 6)
    heap.truncate(sequence, 2 * P + 3)
    assert compute(heap, sequence, 3 * P, start=2 * P + 3) == ()


def test_a_late_stop_keeps_the_pages_of_the_step_in_flight() -> None:
    heap = small_heap(pages=3, caching=False)
    sequence = open_stream(heap, range(64))
    compute(heap, sequence, 2 * P)
    step, _ = begin(heap, sequence, 2 * P, 2 * P + 1)
    heap.truncate(sequence, 2 * P)
    other = open_stream(heap, range(64))
    assert not heap.reserve([(other, 1)])
    heap.check()
    heap.complete(step)
    assert heap.reserve([(other, 1)])
    heap.check()


def test_slide_releases_what_no_query_sees() -> None:
    heap = small_heap(None, 2 * P)
    sequence = open_stream(heap, range(100))
    compute(heap, sequence, 6 * P)
    for position, skipped in ((2 * P, 0), (3 * P - 2, 0), (3 * P - 1, 1), (6 * P, 4)):
        heap.slide(sequence, position)
        assert int(heap.tables[1].skipped[sequence.slot]) == skipped
        assert int(heap.tables[0].skipped[sequence.slot]) == 0
        heap.check()


def test_a_hit_under_a_window_holds_only_what_is_in_reach() -> None:
    heap = small_heap(None, 2 * P)
    finished(heap, range(6 * P))
    sequence = open_stream(heap, range(64))
    assert heap.share_prefix(sequence, 6 * P) == 6 * P
    assert len(pages_held(heap, sequence, 0)) == 6
    assert len(pages_held(heap, sequence, 1)) == 2
    assert compute(heap, sequence, 7 * P, start=6 * P) == ()


def test_a_window_lets_a_stream_run_on_in_few_pages() -> None:
    heap = small_heap(2 * P, pages=5, caching=False)
    sequence = open_stream(heap, range(1000))
    for start in range(0, 40 * P, P):
        compute(heap, sequence, start + P, start=start)
        heap.slide(sequence, start + P)
        heap.check()
    assert heap.stats()[0].live <= 3


def test_groups_of_unequal_bytes_grant_together_or_not_at_all() -> None:
    heap = small_heap(None, None, pages=6)
    assert heap.groups[0].spec.page_bytes != heap.groups[1].spec.page_bytes
    heap.groups[1].allocate(3, -1, 0, lossy=False)  # as if the second group were smaller
    sequence = open_stream(heap, range(64))
    assert not heap.reserve([(sequence, 4 * P)])
    assert heap.groups[0].space.free == 6
    assert heap.reserve([(sequence, 3 * P)])


def test_growth_takes_the_neighbour_even_when_another_run_is_longer() -> None:
    heap = small_heap(pages=512)
    one, two = open_stream(heap, range(2000)), open_stream(heap, range(2000))
    assert heap.reserve([(one, 2 * P), (two, 2 * P)])
    for length in range(3 * P, 12 * P, P):
        assert heap.reserve([(one, length)])
        assert heap.reserve([(two, length)])
    assert heap.tables[0].extents[[one.slot, two.slot]].tolist() == [1, 1]


def test_nothing_is_left_when_everyone_is_gone() -> None:
    heap = small_heap(None, 2 * P, caching=False)
    streams = [open_stream(heap, range(at, at + 50)) for at in range(5)]
    steps = [begin(heap, stream, 0, 40)[0] for stream in streams]
    for stream in streams:
        heap.close(stream)
    heap.check()
    heap.complete(steps[-1])
    heap.check()
    assert [stats.free for stats in heap.stats()] == [64, 64]
    assert (heap.tree.roots, heap.held, heap.flights) == ({}, [], {})


def test_pages_that_count_alike_and_pages_that_do_not_are_released_together() -> None:
    heap = small_heap(pages=16)
    pages = heap.groups[0]
    pages.allocate(8, -1, 0, lossy=False)
    pages.retain([(2, 3)])
    pages.seal([(0, 1), (4, 2)])
    pages.release([(0, 8)])
    assert pages.count[:8].tolist() == [1, 0, 1, 1, 2, 1, 0, 0]
    assert pages.cached == 2  # 0 and 5: only the tree holds them
    pages.retain([(0, 1), (4, 2)])
    assert pages.cached == 0
    pages.release([(4, 2)])
    pages.unseal([(0, 1), (4, 2)])
    assert pages.count[:8].tolist() == [1, 0, 1, 1, 1, 0, 0, 0]
    assert (pages.cached, pages.space.free) == (0, 12)


def test_sequences_that_grow_by_a_page_together_take_their_neighbours() -> None:
    heap = small_heap(None, 16)
    streams = [open_stream(heap, range(64), salt) for salt in "abc"]
    for length in range(P, 4 * P + 1, P):
        assert heap.reserve([(stream, length) for stream in streams])
        heap.check()
    for table in heap.tables:
        assert table.extents[[stream.slot for stream in streams]].tolist() == [1, 1, 1]
    assert heap.length[[stream.slot for stream in streams]].tolist() == [4 * P] * 3
