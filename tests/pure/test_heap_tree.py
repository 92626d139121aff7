"""The prefix tree against a list of all that was published."""

import numpy as np
import pytest

from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from samples.heaps import P, compute, finished, open_stream, small_heap


def _common(one: list[int], other: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _matched(heap: Heap, tokens: list[int], limit: int, salt: str = "") -> int:
    sequence = open_stream(heap, tokens, salt)
    total = heap.share_prefix(sequence, limit)
    heap.check()
    heap.close(sequence)
    return total


@pytest.mark.parametrize("alphabet", [2, 3, 50_000])
def test_matches_are_the_longest_among_all_published(alphabet: int) -> None:
    rng = np.random.default_rng(alphabet)
    heap = small_heap(pages=2000)
    published: dict[str, list[list[int]]] = {"a": [], "b": []}
    stems = [rng.integers(alphabet, size=90).tolist() for _ in range(4)]
    for _ in range(120):
        salt = "ab"[int(rng.integers(2))]
        cut = int(rng.integers(90))
        tokens = stems[int(rng.integers(4))][:cut] + rng.integers(alphabet, size=int(rng.integers(1, 30))).tolist()
        limit = int(rng.integers(len(tokens) + 1))
        longest = max((_common(tokens[:limit], known) for known in published[salt]), default=0)
        assert _matched(heap, tokens, limit, salt) == longest
        finished(heap, tokens, salt)
        published[salt].append(tokens[: len(tokens) // P * P])


def test_part_of_a_page_is_found_among_many_siblings() -> None:
    heap = small_heap(pages=200)
    for last in range(40):
        finished(heap, [1, 2, 3, last, *range(100 + last, 104 + last)])
    assert _matched(heap, [1, 2, 3, 17, 117, 118, 0, 0, 0], 9) == 6
    assert _matched(heap, [1, 2, 3, 17, 117, 118, 0, 0, 0], 5) == 5
    assert _matched(heap, [1, 2, 9, 17, 117, 118, 0, 0, 0], 9) == 2
    assert _matched(heap, [9, 2, 3, 17, 117, 118, 0, 0, 0], 9) == 0


def test_namespaces_never_match() -> None:
    heap = small_heap()
    tokens = list(range(4 * P))
    finished(heap, tokens, "alice")
    assert _matched(heap, tokens, len(tokens), "alice") == 4 * P
    assert _matched(heap, tokens, len(tokens), "bob") == 0
    other_weights = heap.open("x", open_stream(heap, tokens).tokens, Namespace("other", "alice"))
    assert other_weights is not None
    assert heap.share_prefix(other_weights, len(tokens)) == 0


def test_a_namespace_that_nothing_uses_is_forgotten() -> None:
    heap = small_heap(pages=8)
    for tenant in range(50):
        assert _matched(heap, [1, 2, 3], 3, f"looked-{tenant}") == 0
        finished(heap, range(2 * P), f"tenant-{tenant}")
        heap.check()
    assert len(heap.tree.roots) <= 4  # what 8 pages can cache
    finished(heap, range(8 * P), "last")
    assert list(heap.tree.roots) == [Namespace("m", "last")]


def test_identical_work_is_kept_once() -> None:
    heap = small_heap()
    one, two = open_stream(heap, range(40)), open_stream(heap, range(40))
    compute(heap, one, 40, publish=False)
    compute(heap, two, 40, publish=False)
    assert heap.groups[0].space.free == 64 - 10
    heap.publish(one, 40)
    heap.publish(two, 40)
    heap.check()
    assert heap.groups[0].space.free == 64 - 5
    assert heap.counters.deduplicated == 5


def test_a_lone_stream_is_one_long_edge() -> None:
    heap = small_heap(pages=200)
    sequence = open_stream(heap, range(100 * P))
    for start in range(0, 100 * P, P):
        compute(heap, sequence, start + P, start=start)
    assert [node.length for node in heap.tree.nodes()] == [100]


def test_without_prefix_caching_nothing_is_shared() -> None:
    heap = small_heap(caching=False)
    finished(heap, range(40))
    assert heap.groups[0].space.free == 64
    assert _matched(heap, list(range(40)), 40) == 0


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 5])
def test_a_sequence_that_is_cut_steps_back_over_as_many_edges(kept: int) -> None:
    heap = small_heap()
    cut, other = open_stream(heap, range(6 * P)), open_stream(heap, [*range(2 * P), *range(900, 900 + 4 * P)])
    for sequence in (cut, other):
        compute(heap, sequence, 6 * P)  # the second branches off: two pages are an edge of their own
    heap.truncate(cut, kept * P)
    heap.check()
    assert cut.sealed == kept
