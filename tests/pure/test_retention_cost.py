"""What a policy is asked, and how often: never for what merely lies in the cache."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from infergc.engine.assembly import RETENTIONS
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.retention import Retention
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.generational import Generational
from samples.heaps import P, ask, begin, open_stream

METHODS = ("asked", "place", "rank", "choose", "span", "reclaimed")


def counted(policy: Retention, calls: Counter[str]) -> Retention:
    """The policy, with its calls counted."""

    def count(name: str, method: Any) -> Any:
        def called(*args: Any) -> Any:
            calls[name] += 1
            return method(*args)

        return called

    subclass = type("Counted", (type(policy),), {})
    policy.__class__ = subclass
    for name in METHODS:
        setattr(subclass, name, count(name, getattr(policy, name)))
    for name in METHODS:  # bound already: what is called gets no self
        setattr(subclass, name, staticmethod(getattr(subclass, name)))
    return policy


def decode(heap: Heap, steps: int) -> None:
    """A sequence grows by a token a step, with room enough."""
    sequence = open_stream(heap, range(10**6, 10**6 + steps + 1))
    for at in range(steps):
        step, _ = begin(heap, sequence, at, at + 1)
        heap.complete(step)
        heap.publish(sequence, at + 1)
    heap.close(sequence)


@pytest.mark.parametrize("name", RETENTIONS)
@pytest.mark.parametrize("cached", [4, 400])
def test_steps_ask_nothing_for_what_is_cached(name: str, cached: int) -> None:
    calls: Counter[str] = Counter()
    heap = Heap(HeapConfig((GroupSpec("all", 1, None, 2048),), P, 8), counted(RETENTIONS[name](), calls))
    for number in range(cached):
        ask(heap, range(1000 * number, 1000 * number + 2 * P))
    calls.clear()
    decode(heap, 50 * P)
    assert sum(calls.values()) <= 4  # it is placed once it has ended


@pytest.mark.parametrize("name", RETENTIONS)
def test_reclaim_asks_for_what_it_takes_not_for_what_there_is(name: str) -> None:
    """Twice the cache, and the same is taken: as many questions."""
    asked = []
    for pages in (256, 2048):
        calls: Counter[str] = Counter()
        heap = Heap(HeapConfig((GroupSpec("all", 1, None, pages),), P, 8), counted(RETENTIONS[name](), calls))
        for number in range(pages // 2 + 40):  # and what is put off until something is taken is done
            ask(heap, range(1000 * number, 1000 * number + 2 * P))
        calls.clear()
        for number in range(40):
            ask(heap, range(10**6 + 1000 * number, 10**6 + 1000 * number + 2 * P))
        heap.check()
        asked.append(sum(calls.values()))
    assert asked[1] <= 1.5 * asked[0]
    assert asked[0] <= 40 * 12


def test_learning_costs_no_more_in_a_large_pool() -> None:
    """What was learnt is worked out for classes and ages, of which there are as many in any pool."""
    shapes = []
    for pages in (256, 1 << 16):
        policy = Generational()
        policy.begin(pages, P)
        shapes.append(np.shape(policy._reuse._worth))
    assert shapes[0] == shapes[1]
