"""Engines with tiers below the device, without tensors: what is swapped, demoted and restored, and what it saves."""

from typing import Any

import pytest

from infergc.config import ConfigError
from infergc.engine.messages import Abort, DiskNews, Fetched, Tick
from infergc.heap.names import PageName
from infergc.sched.request import Request
from infergc.sched.tier_use import TierUse
from infergc.sim.executor import SimExecutor
from samples.engines import make_engine, run, submit

LOAD = [submit(f"r{at}", [at % 40 + 1, *range(1, 40)], max_tokens=60) for at in range(12)]


def pool(pages: int, **settings: object):  # type: ignore[no-untyped-def]
    return make_engine(pages=pages, max_num_seqs=8, **settings)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("mode", ["auto", "swap", "recompute"])
def test_who_gives_way_goes_on_where_it_was(mode: str, depth: int) -> None:
    whole = run(pool(200), LOAD)
    engine = pool(20, host_cache_memory=400_000, preemption=mode, pipeline_depth=depth)
    tight = run(engine, LOAD)
    assert tight.tokens == whole.tokens
    counters = engine.scheduler.counters
    assert counters.preemptions > 0
    computed = counters.prompt_tokens - counters.prefix_hits + counters.generation_tokens
    assert counters.recomputed_tokens < 0.1 * computed  # the host tier keeps what reclaim takes in any mode
    host = engine.heap.tiers.host
    assert not host.claims
    assert not engine.scheduler.idle or not engine.heap.moves


def test_swapping_saves_what_recomputing_costs() -> None:
    plain = pool(20)
    run(plain, LOAD)
    swapping = pool(20, host_cache_memory=400_000)
    run(swapping, LOAD)
    assert swapping.scheduler.counters.recomputed_tokens < 0.5 * plain.scheduler.counters.recomputed_tokens


def test_swap_needs_a_host_tier() -> None:
    with pytest.raises(ConfigError, match="--preemption: swap keeps KV in the host tier"):
        pool(20, preemption="swap")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host_cache_memory": 10}, "--host-cache-memory: 10 B hold no page; one of every layer group takes 1000 B"),
        ({"host_cache_memory": "1MiB", "enable_prefix_caching": False}, "needs --enable-prefix-caching"),
        ({"disk_cache_dir": "d", "enable_prefix_caching": False}, "--disk-cache-dir: tiers keep cached prefixes"),
        ({"preemption": "sometimes"}, "--preemption"),
        ({"disk_cache_size": "1GiB"}, "--disk-cache-size: there is no disk tier to bound"),
        ({"tiering_policy": "always"}, "--tiering-policy: there are no tiers to load from"),
        ({"tiering_policy": "never"}, "--tiering-policy"),
        ({"disk_cache_dir": ""}, "--disk-cache-dir: takes a directory's path, and this one is empty"),
    ],
)
def test_tiers_that_cannot_be_are_refused_by_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pool(20, **settings)


def test_the_host_tier_is_part_of_the_memory_given_and_of_the_ledger() -> None:
    engine = make_engine(memory=50_000, kv_cache_memory=None, host_cache_memory=20_000)
    assert engine.heap.groups[0].spec.capacity == 30
    assert engine.heap.tiers is not None
    assert engine.heap.tiers.host.space.capacity == 20
    assert engine.ready.memory == {"kv": 30_000, "host cache": 20_000}


class SlowDisk(SimExecutor):
    """Its disk keeps the answers to reads to itself while ``held``."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.held = True

    def news(self) -> list[DiskNews]:
        every = super().news()
        self._kept = [*getattr(self, "_kept", []), *(one for one in every if isinstance(one, Fetched))]
        told: list[DiskNews] = [one for one in every if not isinstance(one, Fetched)]
        if not self.held:
            told, self._kept = [*told, *self._kept], []
        return told


def test_nobody_waits_for_a_disk_that_hangs() -> None:
    engine = make_engine(pages=40, host_cache_memory=8_000, disk_cache_dir="d", executor_class=SlowDisk)
    prompt = list(range(1, 100 // 2))
    executor = engine._executor
    assert isinstance(executor, SlowDisk)
    run(engine, [submit("a", prompt * 2, max_tokens=4)])
    for at in range(12):  # wash it off the device and the host
        run(engine, [submit(f"f{at}", [(at + each) % 49 + 1 for each in range(120)], max_tokens=4)])
    engine.step([submit("again", prompt * 2, max_tokens=4)])
    assert engine.scheduler.loading == 1
    for _ in range(5):
        engine.step()
    assert engine.scheduler.loading == 1
    results = run(engine, [Tick(3)])
    assert results.finish["again"] == "length"
    results = run(engine, [submit("third", [9, *prompt * 2], max_tokens=4)])
    assert results.finish["third"] == "length"
    executor.held = False
    while engine.awaits_news():
        engine.step()
    assert engine.heap.tiers is not None
    assert not engine.heap.tiers.host.claims
    engine.heap.check()


def test_what_left_while_a_request_was_queued_is_read_when_its_turn_comes() -> None:
    engine = make_engine(pages=40, host_cache_memory=8_000, disk_cache_dir="d", max_num_seqs=1)
    prompt = list(range(1, 50)) * 2
    run(engine, [submit("a", prompt, max_tokens=4)])
    others = [submit(f"f{at}", [(at + each) % 49 + 1 for each in range(120)], max_tokens=4) for at in range(12)]
    results = run(engine, [*others, submit("again", prompt, max_tokens=4)])  # what it has on the device is washed off
    assert engine.heap.tiers is not None
    assert engine.heap.tiers.disk is not None
    assert engine.heap.tiers.disk.counters.read > 0
    assert results.cached["again"] >= 0.8 * len(prompt)
    while engine.awaits_news():
        engine.step()
    assert not engine.heap.tiers.host.claims
    engine.heap.check()


def test_who_waits_for_a_read_waits_no_longer_than_it_may() -> None:
    engine = make_engine(pages=40, host_cache_memory=8_000, disk_cache_dir="d", executor_class=SlowDisk)
    prompt = list(range(1, 50)) * 2
    run(engine, [submit("a", prompt, max_tokens=4)])
    for at in range(12):
        run(engine, [submit(f"f{at}", [(at + each) % 49 + 1 for each in range(120)], max_tokens=4)])
    hasty = submit("hasty", prompt, max_tokens=4)
    hasty.queue_timeout = 1
    engine.step([hasty, submit("patient", prompt, max_tokens=4)])
    assert engine.scheduler.loading == 2
    (delta,) = engine.step([Tick(2)]).deltas
    assert (delta.request_id, delta.finish) == ("hasty", "timeout")
    assert engine.scheduler.loading == 1


def test_who_waits_for_a_read_may_go() -> None:
    engine = make_engine(pages=40, host_cache_memory=8_000, disk_cache_dir="d", executor_class=SlowDisk)
    prompt = list(range(1, 50)) * 2
    run(engine, [submit("a", prompt, max_tokens=4)])
    for at in range(12):
        run(engine, [submit(f"f{at}", [(at + each) % 49 + 1 for each in range(120)], max_tokens=4)])
    engine.step([submit("b", prompt, max_tokens=4), submit("c", prompt, max_tokens=4)])
    assert engine.scheduler.loading == 2
    engine.step([Abort("b"), Abort("c")])
    assert not engine.has_work()
    executor = engine._executor
    assert isinstance(executor, SlowDisk)
    executor.held = False
    while engine.awaits_news():
        engine.step()
    assert engine.heap.tiers is not None
    assert not engine.heap.tiers.host.claims
    engine.heap.check()


def test_who_is_aborted_before_it_could_start_leaves_nothing_claimed() -> None:
    engine = pool(8, host_cache_memory=400_000, pipeline_depth=2)
    prompt = list(range(1, 50)) * 2
    run(engine, [submit("a", prompt, max_tokens=1)])
    run(engine, [submit("b", prompt[::-1], max_tokens=1)])  # takes its place
    assert engine.heap.tiers.host.cached
    engine.step([submit("c", [1, 1, *prompt[:-4]], max_tokens=8)])
    engine.step()
    engine.step([Abort("c"), submit("d", prompt, max_tokens=1)])  # what c has is still in use
    engine.step([Abort("d")])
    while engine.has_work():
        engine.step()
    assert not engine.heap.tiers.host.claims


def test_nobody_is_looked_for_below_before_memory_has_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes microseconds a page, and who is first in line may be refused at every step."""
    engine = make_engine(pages=40, host_cache_memory=80_000)
    looked: list[int] = []
    find = TierUse.find

    def noted(self: TierUse, request: Request) -> list[PageName]:
        looked.append(request.number)
        return find(self, request)

    monkeypatch.setattr(TierUse, "find", noted)
    engine.step(
        [submit("long", [at % 49 for at in range(500)], max_tokens=8), submit("waits", [7] * 400, max_tokens=8)]
    )
    for _ in range(6):
        engine.step()
    assert len(engine.scheduler.waiting) == 1
    assert looked == [0]
    assert run(engine, []).finish == {"long": "length", "waits": "length"}
    assert looked == [0, 1]
