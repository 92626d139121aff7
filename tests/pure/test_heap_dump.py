"""The heap as plain data: every page in one place, whatever runs; figures of the same safepoint say the same."""

import random
from collections import Counter
from typing import Any

import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Answer, Ask, Submit
from infergc.engine.record import Recorder
from infergc.heap.dump import STATES, dump
from infergc.heap.groups import GroupSpec
from infergc.heap.provenance import Place, taken_by
from samples.engines import VOCAB, facts, make_engine, run, submit

WINDOWED = (GroupSpec("full", 1000), GroupSpec("window", 500, window=48))


def ask(engine: Engine, *questions: tuple[str, dict[str, Any]]) -> list[Any]:
    """Answers of one safepoint."""
    asked = [Ask(number, what, about) for number, (what, about) in enumerate(questions)]
    answers: list[Answer] = engine.step(asked).answers
    assert [answer.error for answer in answers] == [""] * len(questions)
    return [answer.value for answer in answers]


def turn(name: str, prompt: list[int], session: str, **params: Any) -> Submit:
    one = submit(name, prompt, **params)
    one.session = session
    return one


def check_sums(found: dict[str, Any], figures: dict[str, Any]) -> None:
    """All sums of a dump are those of the figures."""
    check_host_sums(found, figures)
    for group in found["groups"]:
        if group["tier"] == "host":
            continue
        name, kv = group["name"], figures["kv"][group["name"]]
        assert group["pages"] == figures["pages"][name]
        assert {state: sum(group["pages"][state].values()) for state in STATES} == {one: kv[one] for one in STATES}
        assert group["capacity"] == kv["capacity"] == sum(sum(pages.values()) for pages in group["pages"].values())
        assert group["fragmentation"] == kv["fragmentation"]
        live, moving = Counter(found["unowned"][name]), Counter()
        for one in found["objects"]:
            live.update(one["groups"].get(name, {}).get("charged", {}))
        for flight in found["in_flight"]:
            moving.update(flight["groups"][name]["charged"])
        assert +live == +Counter(group["pages"]["live"])
        assert +moving == +Counter(group["pages"]["in_transit"])


def check_host_sums(found: dict[str, Any], figures: dict[str, Any]) -> None:
    """Those of the host tier, which has the same pages of every group, and whom they are kept for."""
    groups = [group for group in found["groups"] if group["tier"] == "host"]
    assert [group["name"] for group in groups] == (list(figures["kv"]) if figures["tiers"] else [])
    assert (found["tiers"] is None) == (not groups)
    for group in groups:
        host = figures["tiers"]["host"]
        states = {state: sum(group["pages"][state].values()) for state in STATES}
        assert states == {state: host[state] for state in STATES}
        assert sum(states.values()) == group["capacity"] == host["capacity"]
        assert found["tiers"]["unclaimed"] == 0
        assert sum(claim["charged"] for claim in found["tiers"]["claims"]) == states["live"] + states["in_transit"]
    assert sum(figures["preempted"].values()) == figures["counters"]["preemptions"]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("groups", [WINDOWED[:1], WINDOWED])
def test_sums_are_the_figures_while_anything_runs(groups: tuple[GroupSpec, ...], depth: int) -> None:
    """Sessions, forks, beams, aborts, eviction and preemption, with steps in flight."""
    engine = make_engine(
        facts(groups), 48, pipeline_depth=depth, gc_young_steps=4, gc_survivor_steps=8, gc_minor_pages=2
    )
    chance = random.Random(depth)  # noqa: S311 - repeatable, not secret
    kinds, states = Counter(), Counter()
    for number in range(160):
        prompt = [3, 4] * chance.randint(1, 30) + [chance.randrange(2, VOCAB)] * chance.randint(0, 20)
        shape = chance.choice(({}, {"n": 2}, {"use_beam_search": True, "beam_width": 2, "temperature": 0}))
        if number % 4 == 0:
            session = f"s{number % 5}" if not shape else ""
            engine.step([turn(f"r{number}", prompt, session, max_tokens=chance.randint(1, 40), **shape)])
        if number % 19 == 0 and number:
            engine.step([Abort(f"r{number - number % 4}")])
        found, figures = ask(engine, ("heap", {}), ("figures", {}))
        check_sums(found, figures)
        assert not any(sum(pages.values()) for pages in found["unowned"].values())
        kinds.update(one["kind"] for one in found["objects"])
        states.update({state: sum(group["pages"][state].values()) for group in found["groups"] for state in STATES})
        kinds.update(["in flight"] * len(found["in_flight"]))
    assert {"request", "parked", "session", "beam_group"} <= kinds.keys(), "the test does not show what it should"
    assert all(states[state] for state in ("free", "live", "cached"))
    assert depth == 1 or (states["in_transit"] and kinds["in flight"])
    assert engine.heap.counters.evicted == sum(figures["evicted"].values()) > 0


def test_a_page_is_charged_to_the_oldest_holder_and_a_parked_turn_is_pinned() -> None:
    engine = make_engine()
    prompt = list(range(2, 40))
    run(engine, [turn("first", prompt, "chat", max_tokens=2)])
    engine.step([turn("second", [*prompt, 7, 7, 7], "chat", max_tokens=60), submit("third", prompt, max_tokens=60)])
    engine.step()
    (found,) = ask(engine, ("heap", {}))
    objects = {one["owner"]: one for one in found["objects"]}
    parked, second, third = (objects[name] for name in ("first", "second", "third"))
    assert (parked["kind"], parked["pinned"], parked["session"]) == ("parked", True, "chat")
    assert (second["kind"], second["pinned"], second["session"]) == ("request", False, "chat")
    assert objects["chat"]["holds"] == [parked["id"], second["id"]]
    assert sum(parked["groups"]["full"]["charged"].values()) == parked["groups"]["full"]["held"] == 2
    for one in (second, third):
        share = one["groups"]["full"]
        assert share["held"] - sum(share["charged"].values()) == 2, "the two pages that it shares with the first"


def test_a_leak_belongs_to_nobody() -> None:
    engine = make_engine()
    run(engine, [submit("a", list(range(2, 40)), max_tokens=2)])
    engine.heap.groups[0].allocate(3, -1, 3, lossy=False, by=taken_by(0, Place.RESERVE))
    found = dump(engine.heap)
    assert sum(found["unowned"]["full"].values()) == 3 == sum(found["groups"][0]["pages"]["live"].values())
    assert "leaked" in ask(engine, ("verify", {}))[0]
    assert not sum(dump(engine.heap)["unowned"]["full"].values())


def test_generations_are_told_apart() -> None:
    engine = make_engine(gc_young_steps=1, gc_survivor_steps=1, gc_minor_pages=1, gc_major_pages=1)
    prompt = list(range(2, 40))
    for number in range(4):
        run(engine, [submit(f"r{number}", [*prompt, *[number + 2] * 20], max_tokens=4)])
        while engine.idle():
            pass
    found, figures = ask(engine, ("heap", {}), ("figures", {}))
    check_sums(found, figures)
    assert sum(found["groups"][0]["pages"]["cached"][name] for name in ("survivor", "tenured")) >= 2
    assert sum(found["tree"]["nodes"].values()) == len(engine.heap.tree.nodes())


def test_residency_counts_every_page_that_was_reclaimed() -> None:
    engine = make_engine(pages=12)
    for number in range(20):
        run(engine, [submit(f"r{number}", [number + 2] * 70, max_tokens=20)])
    (figures,) = ask(engine, ("figures", {}))
    reclaimed = sum(sum(one["counts"]) for one in figures["residency"].values())
    assert reclaimed == figures["counters"]["evicted_pages"] == sum(figures["evicted"].values()) > 20
    steps = sum(one["steps"] for one in figures["residency"].values())
    assert reclaimed < steps < reclaimed * figures["counters"]["steps"]


def test_work_and_time_of_the_collector_come_by_kind() -> None:
    engine = make_engine(gc_minor_pages=1, gc_major_pages=4)
    for number in range(6):
        run(engine, [submit(f"r{number}", [number + 2] * 70, max_tokens=20)])
    (figures,) = ask(engine, ("figures", {}))
    collector, seconds = figures["collector"], figures["collection_seconds"]
    assert min(collector["minor"], collector["major"]) > 0
    assert seconds["major"] > 0
    assert sum(seconds.values()) == pytest.approx(collector["pause_seconds"])
    assert {kind for kind, units in collector["units"].items() if units} == {kind for kind in seconds if seconds[kind]}


def test_the_target_is_kept_free_and_no_more_is_given_up() -> None:
    engine = make_engine(pages=40, gc_target_free=0.5)
    for number in range(12):
        run(engine, [submit(f"r{number}", [number + 2] * 70, max_tokens=20)])
    while engine.idle():
        pass
    (figures,) = ask(engine, ("figures", {}))
    assert 20 <= figures["kv"]["full"]["free"] < 25, "and what the last request gave back"
    assert figures["evicted"]["target"] > 0
    engine.heap.check()


def test_settings_take_effect_at_once_all_or_none() -> None:
    engine = make_engine()
    (before,) = ask(engine, ("settings", {}))
    changed = {
        "gc_step_us": 7.0, "gc_idle_us": 8.0, "gc_minor_pages": 3, "gc_major_pages": 4, "gc_watermark": 0.5,
        "gc_target_free": 0.25, "gc_young_steps": 5, "gc_survivor_steps": 6, "gc_tenured_steps": 7,
        "compaction_budget": 9, "max_sessions": 1, "pin_budget": 0.25,
    }  # fmt: skip
    assert before.keys() == changed.keys()
    assert all(before[name] != value for name, value in changed.items())
    (refused,) = engine.step([Ask(1, "settings", {"gc_step_us": 5.0, "nothing": 1})]).answers
    assert refused.error == "settings: nothing cannot be changed in this engine"
    assert ask(engine, ("settings", {})) == [before]
    assert ask(engine, ("settings", changed)) == [changed]
    assert engine.pacer.step_us == 7.0
    assert engine.pacer.collector.triggers.minor_pages == 3
    assert engine.heap.tree.generations.ages.survivor == 6
    assert engine.heap.compactor is not None
    assert engine.heap.compactor.knobs.budget == 9
    assert engine.heap.pin_budget == 16


def test_a_lower_limit_closes_the_sessions_beyond_it() -> None:
    engine = make_engine()
    run(engine, [turn(f"r{number}", [5, 6], f"s{number}", max_tokens=2) for number in range(3)])
    ask(engine, ("settings", {"max_sessions": 1}))
    (figures,) = ask(engine, ("figures", {}))
    assert figures["sessions"] == {"open": 1, "limit": 2}


def test_without_compaction_there_is_no_budget_for_it() -> None:
    engine = make_engine(compaction=False)
    assert "compaction_budget" not in ask(engine, ("settings", {}))[0]
    (refused,) = engine.step([Ask(1, "settings", {"compaction_budget": 5})]).answers
    assert refused.error.startswith("settings: compaction_budget cannot be changed")


def test_a_parked_turn_knows_its_tokens_when_its_slot_is_anothers() -> None:
    engine = make_engine(max_num_seqs=1)
    run(engine, [turn("first", list(range(2, 40)), "chat", max_tokens=2)])
    run(engine, [submit("second", list(range(40, 2, -1)), max_tokens=2)])
    assert ask(engine, ("verify", {})) == [""]


def test_what_is_asked_replays_without_its_times() -> None:
    events = []
    for _ in range(2):
        recorder = Recorder()
        engine = make_engine(sinks=[recorder], gc_minor_pages=1, gc_step_us=1e6)
        run(engine, [submit("a", list(range(2, 40)), max_tokens=20)])
        ask(engine, ("figures", {}), ("heap", {}), ("settings", {"gc_step_us": 9e5}))
        events.append(recorder.events)
    assert events[0] == events[1]
