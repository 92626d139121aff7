"""Generations: who waits to be looked at, and for how long; ages that change meanwhile."""

import pytest

from infergc.heap.generations import SURVIVOR, YOUNG, Ages
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.generational import Generational
from samples.heaps import P, finished, open_stream

ENOUGH = 10**9
PROMPT = range(3 * P)


def heap_of(ages: Ages, pages: int = 64) -> Heap:
    return Heap(HeapConfig((GroupSpec("all", 1, None, pages),), P, 8, ages=ages), Generational())


def waiting(heap: Heap) -> int:
    return sum(len(queue) for queue in heap.tree.generations._waiting)


def serve(heap: Heap, tokens: int = 3 * P) -> None:
    sequence = open_stream(heap, [*PROMPT[:tokens], 1])
    assert heap.share_prefix(sequence, tokens) == tokens
    heap.close(sequence)


def generations(heap: Heap) -> list[int]:
    return sorted(node.generation for node in heap.tree.nodes())


def test_nobody_waits_who_was_reclaimed() -> None:
    """With ``--gc off`` nobody ever looks: what waits must not outlive its pages."""
    heap = heap_of(Ages(), pages=16)
    for number in range(200):
        finished(heap, range(100 * number, 100 * number + 4 * P))
        assert waiting(heap) <= len(heap.tree.nodes()) <= 16
    assert heap.counters.evicted > 700


def test_lower_ages_hold_for_who_waits_already() -> None:
    heap = heap_of(Ages(young=1000, survivor=1000))
    finished(heap, PROMPT)
    serve(heap)
    heap.planning += 10
    generations_ = heap.tree.generations
    assert generations_.look(YOUNG, heap.planning, ENOUGH) == 0
    generations_.ages = Ages(young=5, survivor=5)
    assert generations_.look(YOUNG, heap.planning, ENOUGH) == 1
    assert generations(heap) == [SURVIVOR]


def test_higher_ages_hold_for_who_waits_already() -> None:
    heap = heap_of(Ages(young=5))
    finished(heap, PROMPT)
    serve(heap)
    heap.tree.generations.ages = Ages(young=1000)
    heap.planning += 10
    assert heap.tree.generations.look(YOUNG, heap.planning, ENOUGH) == 0
    assert not heap.tree.generations.of_age(YOUNG, heap.planning)


@pytest.mark.parametrize("split_at", [0, 6])
def test_who_is_split_off_keeps_nobody_waiting(split_at: int) -> None:
    """Entries are in the order of their steps, the upper halves of nodes that are split among them."""
    heap = heap_of(Ages(young=8))
    finished(heap, PROMPT)
    heap.planning += split_at
    finished(heap, range(500, 500 + 2 * P))
    serve(heap, P)  # splits the first
    entered = [step for step, _ in heap.tree.generations._waiting[YOUNG].values()]
    assert entered == sorted(entered)
    heap.planning += 9
    assert heap.tree.generations.look(YOUNG, heap.planning, ENOUGH) == 3
    assert heap.tree.generations.look(YOUNG, heap.planning, ENOUGH) == 0
    assert generations(heap) == [YOUNG, YOUNG, SURVIVOR]
