"""Ours: a flood takes nothing that proved itself, a part stays where all cannot, nothing is remembered for ever."""

import random

import numpy as np
import pytest

from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.marks import marks_of, seed_of
from infergc.heap.nodes import Namespace
from infergc.heap.retention import Retention
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.generational import Generational
from infergc.policies.retention.lru import Lru
from samples.heaps import P, ask

POOL = 256  # pages


def heap_of(retention: Retention, pages: int = POOL) -> Heap:
    return Heap(HeapConfig((GroupSpec("all", 1, None, pages),), P, 8), retention)


def share(heap: Heap, tokens: range) -> float:
    """The share of a request's pages that was cached."""
    return ask(heap, tokens) / (len(tokens) // P - 1)


def text(number: int, pages: int = 16) -> range:
    return range(number * 100_000, number * 100_000 + pages * P)


def flood(heap: Heap, times: int, seed: int = 0) -> None:
    """Prompts that nobody asks for again, of so many pools in all."""
    draw, left, number = random.Random(seed), times * POOL, 1000 + seed  # noqa: S311 - a workload
    while left > 0:
        pages = draw.randint(2, 40)
        ask(heap, text(number, pages))
        left, number = left - pages, number + 1


def test_a_flood_of_ten_pools_leaves_what_proved_itself() -> None:
    hits = {}
    for policy in (Lru(), Generational()):
        heap = heap_of(policy)
        flood(heap, 1, seed=100)
        for _ in range(3):
            ask(heap, text(1, 32))
        flood(heap, 10, seed=200)
        hits[type(policy)] = share(heap, text(1, 32))
        heap.check()
    assert hits[Lru] == 0
    assert hits[Generational] >= 0.9


@pytest.mark.parametrize("pages", [1, 2, 3, 5])
def test_a_short_prefix_of_many_prompts_is_known_by_its_own_uses(pages: int) -> None:
    """No prompt ends with it; of one page in four, noted by what they are, it has none more often than not."""
    for number in range(8):
        heap, prefix = heap_of(Generational()), list(text(7000 + number, pages))
        flood(heap, 1, seed=100)
        for turn in range(5):
            ask(heap, [*prefix, *text(8000 + turn, 2)])
        flood(heap, 10, seed=200)
        assert ask(heap, [*prefix, *text(9000, 2)]) == pages


def test_where_all_cannot_stay_a_part_does() -> None:
    """Texts asked for in turn, of twice the pool in all: by last use, each is gone just before it comes again."""
    hits = {}
    for policy in (Lru(), Generational()):
        heap = heap_of(policy)
        rounds = [np.mean([share(heap, text(number)) for number in range(32)]) for _ in range(12)]
        hits[type(policy)] = np.mean(rounds[6:])
    assert hits[Lru] == 0
    assert hits[Generational] >= 0.3  # half of it fits


def test_a_prefix_that_was_reclaimed_is_known_when_it_comes_back() -> None:
    heap = heap_of(Generational())
    for _ in range(3):
        ask(heap, text(1, 32))
    ask(heap, text(2, POOL))  # takes everything
    assert share(heap, text(1, 32)) == 0
    flood(heap, 2)
    assert share(heap, text(1, 32)) >= 0.9


def test_a_load_that_changes_is_learnt_anew() -> None:
    """What was hot is not so for ever: after a while the pool is the new load's."""
    heap = heap_of(Generational())
    for _ in range(40):
        for number in range(6):
            ask(heap, text(number, 32))
    later = [np.mean([share(heap, text(100 + number, 32)) for number in range(6)]) for _ in range(40)]
    assert np.mean(later[-10:]) >= 0.9


@pytest.mark.parametrize("seed", range(3))
def test_the_same_asks_give_the_same_tree(seed: int) -> None:
    trees = []
    for _ in range(2):
        heap, draw = heap_of(Generational()), random.Random(seed)  # noqa: S311 - a workload
        for _ in range(300):
            ask(heap, text(draw.randint(0, 30), draw.randint(2, 40)))
        heap.check()
        trees.append([(node.id, node.length, node.used) for node in heap.tree.nodes()])
    assert trees[0] == trees[1]


def test_tenants_do_not_share_what_is_remembered() -> None:
    policy = Generational()
    policy.begin(POOL, P)
    prompt = np.arange(8 * P, dtype=np.int32)
    for salt in ("", "a", "b"):
        policy.asked(Namespace("m", salt), prompt)
        policy.asked(Namespace("m", salt), prompt)
    last = marks_of(prompt, P, seed_of(Namespace("m", "a")), 0)[-1]
    assert policy._history.find(int(last)) == (1, 0, 25)
