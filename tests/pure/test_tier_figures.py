"""What is told of the tiers below the device: every sum of a dump is a figure, and pages, runs and bytes agree."""

import random
from collections import Counter
from typing import Any

import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Command
from infergc.engine.record import Recorder, replay
from infergc.engine.tier_stats import DISK_FAILURES, TRANSFERS
from infergc.heap.groups import GroupSpec
from infergc.heap.host import HostTier
from infergc.heap.tier_dump import tier_dump
from infergc.sched.plan import StepPlan
from infergc.sim.executor import SimExecutor
from infergc.worker.disk.news import Failure
from pure.test_heap_dump import WINDOWED, ask, check_sums
from samples.engines import VOCAB, facts, make_engine, run, submit

LINK = 1e8  # bytes a second
PROMPTS = [[at, *[token % VOCAB for token in range(1, 129)]] for at in range(6)]
PAGE = sum(group.page_bytes for group in WINDOWED)


class Linked:
    """A millisecond a token, and a link of 100 MB/s: copying is sooner."""

    def seconds(self, plan: StepPlan) -> float:
        return 1e-3 * max(1, plan.tokens)

    def copying(self, size: int) -> float:
        return size / LINK


class LinkedSim(SimExecutor):
    def __init__(self, model: Any, record: Any = ()) -> None:
        super().__init__(model, record, Linked())


def tiered(groups: tuple[GroupSpec, ...] = WINDOWED, **settings: Any) -> Engine:
    """An engine of 16 pages with 40 slots below it and a disk."""
    size = sum(group.page_bytes for group in groups)
    usual = {
        "host_cache_memory": 40 * size, "disk_cache_dir": "nowhere", "executor_class": LinkedSim,
        "admission_policy": "page-each",
    }  # fmt: skip
    return make_engine(facts(groups), 16, **{**usual, **settings})


def crowd(chance: random.Random, number: int) -> Command:
    prompt = [chance.randrange(4), *range(1, chance.randrange(8, 150))]
    return submit(
        f"r{number}", [token % VOCAB for token in prompt], max_tokens=chance.randrange(20, 80), ignore_eos=True
    )


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("groups", [WINDOWED[:1], WINDOWED])
@pytest.mark.parametrize("mode", ["swap", "recompute"])
def test_sums_are_the_figures_while_pages_move(groups: tuple[GroupSpec, ...], depth: int, mode: str) -> None:
    engine = tiered(groups, pipeline_depth=depth, preemption=mode)
    chance = random.Random(depth)  # noqa: S311 - repeatable, not secret
    seen = Counter[str]()
    for number in range(90):
        commands = [crowd(chance, number)] if number < 40 else []
        if number % 11 == 0:
            commands.append(Abort(f"r{chance.randrange(number + 1)}"))
        engine.step(commands)
        found, figures = ask(engine, ("heap", {}), ("figures", {}))
        check_sums(found, figures)
        seen.update({claim["kind"]: claim["held"] for claim in found["tiers"]["claims"]})
        for step in found["tiers"]["transfers"]:
            seen.update(stored=step["stored"], loaded=step["loaded"])
        seen.update(figures["tiers"]["host"])
    run(engine, [])
    assert seen["cached"], seen
    assert seen["free"], seen
    assert (seen["request"] and seen["live"]) or mode == "recompute", seen
    assert (seen["write"] and seen["stored"]) or depth == 1, seen


@pytest.mark.parametrize("groups", [WINDOWED[:1], WINDOWED])
def test_what_was_moved_is_what_was_copied(groups: tuple[GroupSpec, ...]) -> None:
    """Pages were counted when planned, bytes when steps landed."""
    engine = tiered(groups, preemption="swap")
    chance = random.Random(1)  # noqa: S311 - repeatable, not secret
    run(engine, [crowd(chance, number) for number in range(40)])
    (figures,) = ask(engine, ("figures", {}))
    tiers, size = figures["tiers"], sum(group.page_bytes for group in groups)
    assert tiers["page_bytes"] == size
    moved = tiers["moved"]
    assert moved.keys() == TRANSFERS.keys()
    copied = moved["demoted"] + moved["saved"] + moved["promoted"]
    assert min(moved["saved"], moved["promoted"], moved["written"]) > 0
    assert tiers["copied"]["bytes"] == copied * size
    assert tiers["copied"]["seconds"] == pytest.approx(copied * size / LINK)
    assert 0 < tiers["runs"] < copied, "runs are longer than a page"
    spared, dropped = tiers["spared"], tiers["dropped"]
    assert spared + dropped <= figures["counters"]["evicted_pages"] <= moved["demoted"] + spared + dropped
    assert figures["disk_store"]["pages_written"] == moved["written"] == tiers["disk"]["pages"] + tiers["disk"]["lost"]
    assert figures["preempted"]["swap"] > 0


def test_hits_are_told_by_tier() -> None:
    engine = tiered(host_cache_memory=200 * PAGE)
    for turn in range(2):
        for at, prompt in enumerate(PROMPTS):
            run(engine, [submit(f"t{turn}p{at}", prompt, max_tokens=2)])
    counters = engine.scheduler.counters
    assert 0 < counters.prefix_hits_host < counters.prefix_hits
    assert counters.prefix_hits_disk == 0
    assert engine.heap.tiers is not None
    assert counters.prefix_hits_host == engine.heap.tiers.counters.promoted * 16


def test_what_was_read_from_disk_is_told_apart() -> None:
    """Of a host tier that holds two prompts of six, the rest is on disk alone."""
    engine = tiered(host_cache_memory=20 * PAGE)
    for turn in range(2):
        for at, prompt in enumerate(PROMPTS):
            run(engine, [submit(f"t{turn}p{at}", prompt, max_tokens=2)])
    counters, tiers = engine.scheduler.counters, engine.heap.tiers
    assert tiers is not None
    assert tiers.disk is not None
    assert 0 < counters.prefix_hits_disk <= counters.prefix_hits_host <= counters.prefix_hits
    assert counters.prefix_hits_disk <= tiers.disk.counters.read * 16
    (figures,) = ask(engine, ("figures", {}))
    assert figures["tiers"]["disk"]["bytes_read"] == figures["tiers"]["moved"]["read"] * PAGE
    assert figures["disk_store"]["pages_read"] == figures["tiers"]["moved"]["read"]


def test_a_read_under_way_is_in_transit_and_its_request_loads() -> None:
    engine = tiered(host_cache_memory=20 * PAGE)
    run(engine, [submit(f"p{at}", prompt, max_tokens=2) for at, prompt in enumerate(PROMPTS)])
    news, engine.hear = engine.hear, list
    engine.step([submit("again", PROMPTS[0], max_tokens=2)])
    found, figures = ask(engine, ("heap", {}), ("figures", {}))
    check_sums(found, figures)
    assert figures["requests"]["loading"] == 1
    assert figures["tiers"]["host"]["in_transit"] == figures["tiers"]["disk"]["reading"] > 0
    reads = [claim for claim in found["tiers"]["claims"] if claim["kind"] == "read"]
    assert [(claim["owner"], claim["charged"]) for claim in reads] == [("read 1", figures["tiers"]["disk"]["reading"])]
    engine.hear = news
    run(engine, [])
    assert ask(engine, ("figures", {}))[0]["requests"]["loading"] == 0


def test_a_slot_that_nobody_claims_and_is_held_is_a_leak() -> None:
    engine = tiered(preemption="swap")
    chance = random.Random(1)  # noqa: S311 - repeatable, not secret
    run(engine, [crowd(chance, number) for number in range(12)])
    assert engine.heap.tiers is not None
    host: HostTier = engine.heap.tiers.host
    key = next(iter(host.cached))
    assert host.claim([key])
    found = tier_dump(engine.heap, (), ())
    assert found is not None
    assert found["unclaimed"] == 1
    host.unclaim([key])


def test_without_tiers_there_is_nothing_to_tell() -> None:
    engine = make_engine(pages=12)
    run(engine, [submit(f"r{number}", [number, *range(1, 30)], max_tokens=60) for number in range(6)])
    found, figures = ask(engine, ("heap", {}), ("figures", {}))
    check_sums(found, figures)
    assert found["tiers"] is None
    assert figures["tiers"] == {}
    assert figures["preempted"] == {"swap": 0, "recompute": figures["counters"]["preemptions"]}
    assert figures["preempted"]["recompute"] > 0


def test_figures_replay_without_those_of_files() -> None:
    recorder = Recorder()
    engine = tiered(sinks=[recorder], preemption="swap", gc="off")
    chance = random.Random(3)  # noqa: S311 - repeatable, not secret
    for number in range(60):
        engine.step([crowd(chance, number)] if number < 30 else [])
        ask(engine, ("figures", {}), ("heap", {}))
    twin_recorder = Recorder()
    twin = tiered(sinks=[twin_recorder], record=recorder.outcomes, preemption="swap", gc="off")
    replay(recorder, twin)
    assert twin_recorder.events == recorder.events


def test_disk_failures_have_the_words_of_the_disk() -> None:
    assert tuple(map(str, Failure)) == DISK_FAILURES
