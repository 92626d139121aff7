"""Pins, priorities and times of cached prefixes: from what a request asks to which pages stay."""

import pytest

from infergc.cache_control import ORDINARY, CacheControl, as_cache_control
from infergc.engine.loop import Engine
from infergc.engine.messages import Ask, Command, Submit, Tick
from infergc.engine.record import Recorder, replay
from infergc.heap.dump import dump
from infergc.heap.groups import GroupSpec
from infergc.heap.objects import Pin
from infergc.params import ParameterError
from infergc.server.metrics.pins import pins as pin_families
from samples.engines import VOCAB, Results, facts, make_engine, run, submit

POOL = 100  # pages
SYSTEM = [7, 8, 9, 10] * 20  # 80 tokens: 5 pages of 16
WINDOWED = (GroupSpec("full", 1000), GroupSpec("window", 500, window=48))


def asking(name: str, prompt: list[int], control: CacheControl | None, **params: object) -> Submit:
    one = submit(name, prompt, **{"max_tokens": 1, **params})
    one.cache_control = control
    return one


def flood(engine: Engine, pages: int, mark: str = "x", control: CacheControl | None = None) -> None:
    """One-off prompts of 8 pages each, this many pages in all."""
    for number in range(pages // 8):
        prompt = [(number * 31 + at * (number + 3)) % (VOCAB - 1) for at in range(128)]
        prompt[0] = number % VOCAB
        run(engine, [asking(f"{mark}{number}", prompt, control)], check=False)
    engine.heap.check()


def cached(engine: Engine, prompt: list[int], name: str = "again") -> int:
    """Tokens of a prompt that are found when it is asked for once more."""
    return run(engine, [asking(name, [*prompt, 1], None)]).cached[name]


def pinned(results: Results, name: str) -> int | None:
    return results.pinned[name]


# ---- what may be asked


@pytest.mark.parametrize(
    ("given", "ttl", "priority"),
    [
        ({"type": "ephemeral"}, 300, ORDINARY),
        ({"ttl": "5m"}, 300, ORDINARY),
        ({"ttl": "1h"}, 3600, ORDINARY),
        ({"ttl": 7}, 7, ORDINARY),
        ({"ttl": "2d", "priority": 0}, 172800, 0),
        ({"priority": 100}, None, 100),
        ({"priority": 100, "pin": True}, 300, 100),
        ({"pin": True, "ttl": "90s"}, 90, ORDINARY),
    ],
)
def test_what_is_left_out_has_a_meaning(given: dict[str, object], ttl: int | None, priority: int) -> None:
    control = as_cache_control(given)
    assert (control.ttl, control.priority, control.pin) == (ttl, priority, given.get("pin", False))
    assert CacheControl(control.ttl, control.priority, control.pin) == control, "it comes off the wire as it went"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("ephemeral", "cache_control: takes an object"),
        ({"type": "persistent"}, 'cache_control.type: "persistent" is not allowed; it must be "ephemeral"'),
        ({"lifetime": 3}, 'cache_control: has no field "lifetime"; there are type, ttl, priority, pin'),
        ({"ttl": "soon"}, 'cache_control.ttl: takes "5m", "1h", or seconds, not "soon"'),
        ({"ttl": True}, "cache_control.ttl: takes"),
        ({"ttl": 1.5}, "cache_control.ttl: takes"),
        ({"ttl": 0}, "cache_control.ttl: 0 is not allowed; it must be ≥ 1 second and ≤ 30 days"),
        ({"ttl": "31d"}, 'cache_control.ttl: "31d" is not allowed'),
        ({"ttl": "\ud800"}, "cache_control.ttl: character 0 is half a surrogate pair"),
        ({"priority": 101}, "cache_control.priority: 101 is not allowed; it must be ≥ 0 and ≤ 100"),
        ({"priority": -1}, "cache_control.priority: -1 is not allowed"),
        ({"priority": True}, "cache_control.priority: takes an integer"),
        ({"pin": 1}, "cache_control.pin: takes true or false, not 1"),
    ],
)
def test_what_is_wrong_is_named(given: object, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        as_cache_control(given)
    assert str(error.value).startswith(message)


# ---- pins


@pytest.mark.parametrize("policy", ["generational", "lru", "priority", "ttl"])
@pytest.mark.parametrize("groups", [WINDOWED[:1], WINDOWED])
def test_a_pinned_prefix_outlives_a_flood(groups: tuple[GroupSpec, ...], policy: str) -> None:
    engine = make_engine(facts(groups), POOL, retention_policy=policy)
    results = run(engine, [asking("pin", SYSTEM, CacheControl(pin=True))])
    assert pinned(results, "pin") == 80
    flood(engine, 10 * POOL)
    assert cached(engine, SYSTEM) == 80


def test_without_a_pin_lru_loses_it() -> None:
    engine = make_engine(pages=POOL, retention_policy="lru")
    run(engine, [asking("plain", SYSTEM, None)])
    flood(engine, 10 * POOL)
    assert cached(engine, SYSTEM) == 0


def test_a_prefix_asked_for_a_few_times_outlives_a_flood_without_hints() -> None:
    engine = make_engine(pages=POOL)
    for number in range(4):
        run(engine, [asking(f"warm{number}", [*SYSTEM, number], None)])
    flood(engine, 10 * POOL)
    assert cached(engine, SYSTEM) >= 0.9 * 80


def test_the_budget_counts_shared_pages_once_and_refuses_what_is_over() -> None:
    engine = make_engine(pages=POOL)  # 10 pages may be pinned
    pin = CacheControl(pin=True)
    one = [*SYSTEM, *[3] * 48]
    first = run(engine, [asking("a", SYSTEM, pin), asking("b", one, pin)])
    assert (pinned(first, "a"), pinned(first, "b")) == (80, 128)
    assert (engine.heap.pinned, engine.heap.pin_budget) == (8, 10)
    second = run(engine, [asking("c", [*SYSTEM, *[4] * 48], pin)])
    assert pinned(second, "c") == 0, "three pages more would be eleven"
    assert second.finish["c"] == "length", "the request is served all the same"
    third = run(engine, [asking("d", [*SYSTEM, *[5] * 32], pin), asking("e", SYSTEM, pin), asking("f", SYSTEM, None)])
    assert (pinned(third, "d"), pinned(third, "e"), pinned(third, "f")) == (112, 80, None)
    assert engine.heap.pinned == 10
    assert engine.scheduler.pins.asked == {"pinned": 3, "renewed": 1, "refused": 1}


def test_a_short_prompt_has_no_page_to_pin() -> None:
    engine = make_engine()
    assert pinned(run(engine, [asking("a", SYSTEM[:15], CacheControl(pin=True))]), "a") == 0


@pytest.mark.parametrize("extra", [{"n": 3}, {"n": 2, "use_beam_search": True, "beam_width": 3, "temperature": 0}])
def test_a_prompt_with_several_choices_is_pinned_once(extra: dict[str, object]) -> None:
    engine = make_engine()
    results = run(engine, [asking("a", SYSTEM, CacheControl(pin=True), max_tokens=9, **extra)])
    assert results.pinned["a#0"] == 80
    assert sum(isinstance(one, Pin) for one in engine.heap.graph) == len(engine.scheduler.pins) == 1


@pytest.mark.parametrize("extra", [{"n": 3}, {"n": 2, "use_beam_search": True, "beam_width": 3, "temperature": 0}])
@pytest.mark.parametrize("length", range(60, 68))
def test_choices_part_where_a_window_ends_with_the_prompt(length: int, extra: dict[str, object]) -> None:
    """A branch computes the prompt's last token once more, and sees a page that its parent does not any longer."""
    engine = make_engine(facts(WINDOWED), block_size=8)
    results = run(engine, [asking("a", SYSTEM[:length], CacheControl(priority=50), max_tokens=9, **extra)])
    assert set(results.finish.values()) == {"length"}


def test_a_pin_ends_with_its_time_and_is_renewed_when_asked_for_again() -> None:
    engine = make_engine(pages=POOL)
    run(engine, [asking("a", SYSTEM, CacheControl(ttl=10, pin=True))])
    run(engine, [Tick(9), asking("b", SYSTEM, CacheControl(ttl=20, pin=True))])
    run(engine, [Tick(29)])
    assert len(engine.scheduler.pins) == 1
    run(engine, [Tick(30)])
    assert (len(engine.scheduler.pins), engine.heap.pinned) == (0, 0)
    assert engine.scheduler.pins.ended == {"ttl": 1}
    run(engine, [asking("c", SYSTEM, CacheControl(ttl=100, pin=True)), asking("d", SYSTEM, CacheControl(1, pin=True))])
    run(engine, [Tick(32)])
    assert not len(engine.scheduler.pins), "the last word counts: so a pin can be given up"


def test_a_request_that_could_not_run_otherwise_goes_before_pins() -> None:
    engine = make_engine(facts(max_len=512), pages=30, pin_budget=1.0)
    low, high = CacheControl(priority=1, pin=True), CacheControl(priority=90, pin=True)
    run(engine, [asking("high", SYSTEM, high), asking("low", [5] * 160, low)])
    assert engine.heap.pinned == 15
    results = run(engine, [submit("long", list(range(2, 42)) * 7, max_tokens=32)])  # 20 pages of 15
    assert results.finish["long"] == "length"
    assert cached(engine, SYSTEM) == 80, "the pin of less priority was enough"
    assert engine.scheduler.pins.ended == {"memory": 1}
    grown = run(engine, [submit("grown", [3] * 20, max_tokens=440)])  # needs all but two pages as it goes on
    assert grown.finish["grown"] == "length"
    assert engine.scheduler.pins.ended == {"memory": 2}


def test_a_crowd_does_not_cost_pins() -> None:
    """Requests wait for each other, and are preempted, before a pin goes."""
    engine = make_engine(pages=30, pin_budget=0.2)
    run(engine, [asking("pin", SYSTEM, CacheControl(pin=True))])
    results = run(engine, [submit(f"r{at}", [at] * 60, max_tokens=150) for at in range(8)])
    assert set(results.finish.values()) == {"length"}
    assert engine.scheduler.counters.preemptions > 0
    assert len(engine.scheduler.pins) == 1


def test_dump_and_metrics_say_what_is_pinned() -> None:
    engine = make_engine(facts(WINDOWED), POOL)
    pin = CacheControl(pin=True)
    run(engine, [asking("a", SYSTEM, pin), asking("b", [*SYSTEM, *[3] * 32], pin), asking("c", [4] * 160, pin)])
    answers = engine.step([Ask(1, "heap"), Ask(2, "figures")]).answers
    found, figures = (answer.value for answer in answers)
    assert [(group["pinned"], group["pin_budget"]) for group in found["groups"]] == [(7, 10)] * 2
    held = [one for one in found["objects"] if one["kind"] == "pin"]
    assert [(one["owner"], one["pinned"], one["groups"]["full"]["held"]) for one in held] == [
        ("a", True, 5), ("b", True, 7)
    ]  # fmt: skip
    assert figures["pins"] == {
        "open": 2, "pages": 7, "budget_pages": 10,
        "asked": {"pinned": 2, "renewed": 0, "refused": 1}, "ended": {"ttl": 0, "memory": 0, "budget": 0},
    }  # fmt: skip
    samples = {each.name: each.value for family in pin_families(figures["pins"]) for each in family.samples}
    assert (samples["infergc_kv_pinned_pages"], samples["infergc_kv_pin_budget_pages"]) == (7, 10)
    assert sum(dump(engine.heap)["unowned"]["full"].values()) == 0


def test_a_pin_is_no_leak_and_no_garbage() -> None:
    engine = make_engine()
    run(engine, [asking("a", SYSTEM, CacheControl(pin=True))])
    while engine.idle():
        pass
    assert engine.step([Ask(1, "verify")]).answers[0].value == ""
    assert len(engine.scheduler.pins) == 1


# ---- hints


def test_higher_priority_stays_longer_under_the_default_policy() -> None:
    engine = make_engine(pages=POOL)
    run(engine, [asking("high", SYSTEM, CacheControl(priority=80))])
    run(engine, [asking("low", [5] * 80, CacheControl(priority=10))])
    run(engine, [asking("plain", [6] * 80, None)])
    flood(engine, POOL)
    assert cached(engine, [5] * 80) < 16, "the lowest goes first, though others are older"
    flood(engine, 10 * POOL, "y")
    assert cached(engine, SYSTEM) == 80


def test_a_page_whose_time_is_over_goes_first() -> None:
    engine = make_engine(pages=POOL)
    run(engine, [asking("old", [6] * 80, None)])
    for number in range(3):
        run(engine, [asking(f"timed{number}", [*SYSTEM, number], CacheControl(ttl=10))])
    run(engine, [Tick(11)])
    flood(engine, POOL)
    assert cached(engine, SYSTEM) < 16, "its time is over, however often it was used"
    assert cached(engine, [6] * 80, "other") == 80


def test_use_renews_the_time() -> None:
    engine = make_engine(pages=POOL, retention_policy="lru")
    run(engine, [asking("old", [6] * 80, None)])
    run(engine, [asking("timed", SYSTEM, CacheControl(ttl=10))])
    run(engine, [Tick(9)])
    assert cached(engine, SYSTEM) == 80
    run(engine, [Tick(19)])
    assert not any(node.level < 0 for node in engine.heap.tree.nodes())
    run(engine, [Tick(20)])
    assert any(node.level < 0 for node in engine.heap.tree.nodes())
    assert cached(engine, SYSTEM, "late") == 80
    assert not any(node.level < 0 for node in engine.heap.tree.nodes()), "used again, it has its time again"


def test_nobody_makes_less_of_what_others_have() -> None:
    engine = make_engine(pages=POOL)
    run(engine, [asking("plain", SYSTEM, None)])
    run(engine, [asking("low", [*SYSTEM, *[3] * 32], CacheControl(ttl=1, priority=0))])
    levels = {node.tokens.view()[0]: node.level for node in engine.heap.tree.nodes()}
    assert levels == {7: ORDINARY, 3: 0}
    run(engine, [asking("high", [*SYSTEM, *[4] * 32], CacheControl(ttl=5, priority=90))])
    run(engine, [Tick(6)])
    levels = {node.tokens.view()[0]: node.level for node in engine.heap.tree.nodes()}
    assert levels == {7: ORDINARY, 3: -1, 4: -1}, "raised for a time, then as it was"


def test_what_follows_a_prompt_does_not_inherit_its_hint() -> None:
    engine = make_engine(pages=POOL)
    run(engine, [asking("a", SYSTEM, CacheControl(priority=90), max_tokens=60)])
    run(engine, [asking("b", [*SYSTEM, *[3] * 64], None)])
    hinted = [node for node in engine.heap.tree.nodes() if node.level != ORDINARY]
    assert sum(node.length for node in hinted) == 5


def test_the_policy_ttl_takes_promises_at_their_word() -> None:
    engine = make_engine(pages=POOL, retention_policy="ttl")
    run(engine, [asking("late", SYSTEM, CacheControl(ttl=1000)), asking("soon", [5] * 80, CacheControl(ttl=100))])
    flood(engine, 10 * POOL)
    assert (cached(engine, SYSTEM), cached(engine, [5] * 80, "other")) == (80, 80)
    for at in range(12):
        run(engine, [asking(f"more{at}", [at + 11] * 160, CacheControl(ttl=500))])
    assert (cached(engine, SYSTEM, "x"), cached(engine, [5] * 80, "y")) == (80, 0)


def test_the_policy_priority_keeps_the_highest() -> None:
    engine = make_engine(pages=POOL, retention_policy="priority")
    run(engine, [asking("high", SYSTEM, CacheControl(priority=60))])
    flood(engine, 10 * POOL, control=CacheControl(priority=50))
    assert cached(engine, SYSTEM) == 80


def test_hints_of_reclaimed_pages_do_not_pile_up() -> None:
    engine = make_engine(pages=POOL)
    flood(engine, 60 * POOL, control=CacheControl(ttl="30d"))
    assert engine.heap.counters.evicted > 50 * POOL
    assert len(engine.heap.tree.hints._due) <= 2 * POOL + 64


# ---- replay


def timed_load() -> list[list[Command]]:
    """Pins and hints that come, are renewed and end, on a pool that is always too small."""
    rounds: list[list[Command]] = []
    for at in range(60):
        control = CacheControl(ttl=2 + at % 7, priority=at * 13 % 101, pin=at % 3 == 0)
        prompt = [*SYSTEM[: 16 * (1 + at % 5)], *[at % 6] * 40, *[at % VOCAB] * 30]
        rounds.append([Tick(at), asking(f"r{at}", prompt, control if at % 4 else None, max_tokens=20)])
    return rounds


@pytest.mark.parametrize("policy", ["generational", "ttl"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_run_with_times_is_replayed_from_its_record(depth: int, policy: str) -> None:
    settings = {"pages": 40, "pipeline_depth": depth, "pin_budget": 0.5, "retention_policy": policy, "gc": "off"}
    first, second = Recorder(), Recorder()
    engine = make_engine(facts(WINDOWED), sinks=[first], **settings)
    for commands in timed_load():
        run(engine, commands)
    assert engine.scheduler.pins.ended["ttl"] > 2
    assert engine.heap.counters.evicted > 100
    twin = make_engine(facts(WINDOWED), sinks=[second], record=first.outcomes, **settings)
    replay(first, twin)
    assert second.events == first.events
    assert dump(twin.heap) == dump(engine.heap)


def test_a_smaller_budget_ends_the_pins_that_are_over_it() -> None:
    """The least of them first, and no more than have to go: what is pinned is never over the budget."""
    engine = make_engine(pages=POOL)
    for name, tokens, ttl in (("short", [3] * 32, 5), ("long", [4] * 32, 90), ("longer", [5] * 32, 99)):
        run(engine, [asking(name, tokens, CacheControl(pin=True, ttl=ttl))])
    assert (engine.heap.pinned, engine.heap.pin_budget) == (6, 10)
    (answer,) = engine.step([Ask(1, "settings", {"pin_budget": 4 / POOL})]).answers
    assert answer.value["pin_budget"] == 4 / POOL
    engine.heap.check()
    assert (engine.heap.pinned, engine.heap.pin_budget) == (4, 4)
    assert engine.scheduler.pins.ended == {"budget": 1}
    assert pinned(run(engine, [asking("late", [6] * 32, CacheControl(pin=True))]), "late") == 0
    engine.step([Ask(2, "settings", {"pin_budget": 0.0})])
    engine.heap.check()
    assert (engine.heap.pinned, engine.heap.pin_budget, len(engine.scheduler.pins)) == (0, 0, 0)
    engine.step([Ask(3, "settings", {"pin_budget": 0.1})])
    assert pinned(run(engine, [asking("again", [6] * 32, CacheControl(pin=True))]), "again") == 32
