"""What callers must not do is refused by name, and nothing has changed then."""

import pytest

from samples.heaps import P, begin, compute, open_stream, small_heap


def test_truncating_behind_a_released_window_is_refused() -> None:
    heap = small_heap(None, 8)
    sequence = open_stream(heap, range(64))
    compute(heap, sequence, 64)
    heap.slide(sequence, 64)
    with pytest.raises(ValueError, match=r"truncate to 40 tokens: .*g1"):
        heap.truncate(sequence, 40)
    assert heap.length[sequence.slot] == 64
    heap.check()
    heap.truncate(sequence, 64)
    heap.check()


def test_truncating_within_the_window_that_is_held() -> None:
    heap = small_heap(None, 24)
    sequence = open_stream(heap, range(64))
    compute(heap, sequence, 64)
    heap.slide(sequence, 48)
    heap.truncate(sequence, 50)
    heap.check()
    assert heap.tables[1].skipped[sequence.slot] == (48 - 24 + 1) // P


def test_truncating_to_more_than_is_held_is_refused() -> None:
    heap = small_heap()
    sequence = open_stream(heap, range(20))
    compute(heap, sequence, 10)
    with pytest.raises(ValueError, match="truncate to 11 tokens: the sequence holds 10"):
        heap.truncate(sequence, 11)


def test_truncating_to_a_negative_length_is_refused() -> None:
    heap = small_heap()
    sequence = open_stream(heap, range(20))
    compute(heap, sequence, 10)
    with pytest.raises(ValueError, match="truncate to -1 tokens"):
        heap.truncate(sequence, -1)
    heap.check()


def test_fork_with_a_step_in_flight_is_refused() -> None:
    heap = small_heap()
    sequence = open_stream(heap, range(20))
    step, _ = begin(heap, sequence, 0, 10)
    with pytest.raises(ValueError, match="fork: a step in flight"):
        heap.fork(sequence, "branch")
    heap.complete(step)
    assert heap.fork(sequence, "branch") is not None
    heap.check()


def test_slots_run_out_and_come_back() -> None:
    heap = small_heap(slots=2)
    first, second = open_stream(heap, [1]), open_stream(heap, [2])
    assert heap.open("third", first.tokens, first.namespace) is None
    assert heap.fork(first, "branch") is None
    slot = second.slot
    heap.close(second)
    assert open_stream(heap, [3]).slot == slot
    heap.check()


def test_a_limit_beyond_the_known_tokens_is_the_known_tokens() -> None:
    heap = small_heap()
    tokens = list(range(3 * P))
    published = open_stream(heap, tokens)
    compute(heap, published, len(tokens))
    sequence = open_stream(heap, tokens[:12])
    assert heap.share_prefix(sequence, 10_000) == 12
    heap.check()
