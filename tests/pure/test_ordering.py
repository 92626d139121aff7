"""Who goes first, and that nobody waits for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from infergc.params import SamplingParams
from infergc.policies.ordering.cache_aware import CacheAware
from infergc.policies.ordering.shortest_first import ShortestFirst
from infergc.sched.queue import Ordering, RequestQueue
from infergc.sched.request import Request
from infergc.sim.catalog import geometry_named
from infergc.sim.cost import Roofline
from infergc.sim.devices import device_named
from infergc.sim.requests import TraceRequest
from infergc.sim.simulate import Run, Setup, simulate

LONGEST = 50


def request(number: int, tokens: int, came_after: int, at_hand: int = 0) -> Request:
    prompt = TokenLog(np.zeros(tokens, np.int32))
    namespace = Namespace("", "")
    return Request(
        str(number), number, prompt, tokens, SamplingParams(), tokens + 1, namespace,
        came_after=came_after, at_hand=at_hand,
    )  # fmt: skip


@pytest.mark.parametrize("ordering", [ShortestFirst(4), CacheAware(4)], ids=["shortest", "cached"])
@given(
    lengths=st.lists(st.tuples(st.integers(1, LONGEST), st.integers(0, LONGEST)), min_size=1, max_size=60),
    serves=st.lists(st.integers(0, 3), min_size=60, max_size=60),
)
def test_what_passes_a_request_is_bounded(
    ordering: Ordering, lengths: list[tuple[int, int]], serves: list[int]
) -> None:
    """Of those that came later, less than weight x the longest, and one, go before anybody."""
    queue, passed, work = RequestQueue(ordering), dict[int, int](), 0
    waiting: dict[int, Request] = {}

    def serve() -> None:
        first = queue.first()
        assert first is not None
        queue.remove(first)
        del waiting[first.number]
        for number in waiting:
            if number < first.number:
                passed[number] = passed.get(number, 0) + first.prompt_len

    for number, ((tokens, at_hand), count) in enumerate(zip(lengths, serves, strict=False)):
        waiting[number] = request(number, tokens, work, min(tokens, at_hand))
        work += tokens
        queue.add(waiting[number])
        for _ in range(min(count, len(queue))):
            serve()
    while len(queue):
        serve()
    assert max(passed.values(), default=0) < 4 * LONGEST + LONGEST


def test_the_shortest_goes_first_and_who_waited_long_before_it() -> None:
    queue = RequestQueue(ShortestFirst())
    for number, (tokens, came_after) in enumerate([(1000, 0), (10, 1000), (10, 3990), (10, 4010)]):
        queue.add(request(number, tokens, came_after))
    assert [each.number for each in queue] == [1, 0, 2, 3]


def test_a_queue_stands_by_what_is_at_hand_now() -> None:
    queue = RequestQueue(CacheAware())
    first, second = request(0, 100, 0), request(1, 100, 100)
    queue.add(first)
    queue.add(second)
    queue.rekey(second, 64)
    assert [each.number for each in queue] == [1, 0]
    queue.rekey(second, 2)
    assert [each.number for each in queue] == [0, 1]
    queue.remove(second)
    assert queue.first() is first


def test_all_are_looked_at_in_turn() -> None:
    queue = RequestQueue(CacheAware())
    for number in range(11):
        queue.add(request(number, 10, number))
    seen = [each.number for _ in range(3) for each in queue.some(2, 4)]
    assert seen == [0, 1, 2, 3, 4, 5, 0, 1, 6, 7, 8, 9, 0, 1, 10]


MODEL = geometry_named("llama-3-8b")
PREFIX, KINDS, EACH = 1024, 8, 12


def burst(ordering: str) -> Run:
    """All at once, in turns: requests that share one of some prefixes, of which a few fit into the pool."""
    requests = [
        TraceRequest(0.0, PREFIX + 64, 32, blocks=(kind, 1000 + 100 * kind + at), block_tokens=PREFIX)
        for at in range(EACH) for kind in range(KINDS)
    ]  # fmt: skip
    settings = {"scheduling_policy": ordering, "max_num_seqs": 3, "max_num_batched_tokens": 2048}
    pool = 4 * (PREFIX + 128) * MODEL.kv_bytes_per_token
    return simulate(Setup(MODEL, Roofline(MODEL, device_named("a100-80g")), pool, "lru", settings=settings), requests)


def test_a_burst_of_shared_prefixes_hits_more_when_the_cached_go_first() -> None:
    plain, aware = burst("fcfs"), burst("cache-aware")
    assert plain.figures["finished"] == aware.figures["finished"] == KINDS * EACH
    assert plain.figures["token_hit_rate"] < 0.2
    assert aware.figures["token_hit_rate"] > 0.6
    assert aware.figures["seconds"] < 0.8 * plain.figures["seconds"]
    slowest = [max(fate.first or 0.0 for fate in run.fates) for run in (plain, aware)]
    assert slowest[1] < slowest[0], "nobody starves"
