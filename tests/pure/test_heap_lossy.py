"""Law 8: what is not exact is marked and stays private."""

from samples.heaps import P, compute, open_stream, pages_held, small_heap


def test_pages_granted_but_not_computed_turn_lossy() -> None:
    heap = small_heap(None, 16)
    sequence = open_stream(heap, range(64))
    compute(heap, sequence, P)
    assert heap.reserve([(sequence, 4 * P)])
    heap.taint(sequence)
    for group, pages in enumerate(heap.groups):
        first, *rest = pages_held(heap, sequence, group)
        assert not pages.lossy[first]
        assert pages.lossy[rest].all()
    heap.check()


def test_a_tainted_sequence_publishes_nothing_and_matches_nothing() -> None:
    heap = small_heap()
    sequence = open_stream(heap, range(64))
    compute(heap, sequence, 20)
    heap.taint(sequence)
    compute(heap, sequence, 50, start=20)
    assert sequence.sealed == 20 // P
    probe = open_stream(heap, range(64))
    assert heap.share_prefix(probe, 63) == 20 // P * P
    tainted = open_stream(heap, range(64))
    heap.taint(tainted)
    assert heap.share_prefix(tainted, 63) == 0


def test_a_branch_of_a_tainted_sequence_is_tainted() -> None:
    heap = small_heap()
    sequence = open_stream(heap, range(64))
    compute(heap, sequence, 20)
    heap.taint(sequence)
    branch = heap.fork(sequence, "branch")
    assert branch is not None
    compute(heap, branch, 40, start=20)
    assert branch.sealed == 20 // P
    assert not branch.exact


def test_pages_lose_the_mark_when_they_are_freed() -> None:
    heap = small_heap(pages=4)
    sequence = open_stream(heap, range(64))
    heap.taint(sequence)
    compute(heap, sequence, 4 * P)
    assert heap.groups[0].lossy.all()
    heap.close(sequence)
    clean = open_stream(heap, range(64))
    compute(heap, clean, 4 * P)
    assert clean.sealed == 4
    assert not heap.groups[0].lossy.any()
