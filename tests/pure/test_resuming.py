"""Memory is refused at any point of an iteration of the engine: another engine goes on, and nobody notices."""

import re
from typing import Any

import pytest

from infergc.cache_control import CacheControl
from infergc.engine.intake import Intake
from infergc.engine.loop import Engine
from infergc.engine.messages import Ask, Command, Submit, Tick
from infergc.engine.pacing import Pacer
from infergc.engine.resuming import ResumingEngine
from infergc.heap.errors import StorageLost
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sched.request import Request
from infergc.sched.scheduler import Scheduler
from infergc.sim.executor import DoneFlight, SimExecutor
from samples.engines import Results, engine_settings, facts, submit
from samples.faults import Points, in_engine

SHORT: dict[str, Any] = {"pages": 22, "max_num_seqs": 6, "admission_policy": "page-each", "max_num_batched_tokens": 48}
TIERS = {"host_cache_memory": 30_000, "preemption": "swap", "tiering_policy": "always", "disk_cache_dir": "unused"}
SHAPES: dict[str, dict[str, Any]] = {
    "short": {**SHORT, "pipeline_depth": 2},
    "tiers": {**SHORT, **TIERS, "pipeline_depth": 2},
    "window": {**SHORT, "model": facts((GroupSpec("full", 1000), GroupSpec("window", 600, window=40)))},
}


def load() -> list[Submit]:
    """Requests of every kind, that share prefixes."""
    kinds: list[dict[str, Any]] = [
        {},
        {"n": 3},
        {"logprobs": 2, "prompt_logprobs": 1},
        {"n": 2, "use_beam_search": True},
        {"stop_token_ids": [7, 8, 9]},
        {"n": 2, "prompt_logprobs": 0},
        {},
        {"min_tokens": 3},
    ]
    requests = [
        submit(f"r{at}", [at % 3] * (9 + 11 * at), **{"max_tokens": 18, "ignore_eos": True, **kind})
        for at, kind in enumerate(kinds)
    ]
    requests[0].session = requests[6].session = "a session"
    requests[6].cache_control = CacheControl(pin=True, ttl=60)
    requests[7].queue_timeout = 50
    return requests


def resuming(
    model: Any = None, pages: int = 64, executor: type[SimExecutor] = SimExecutor, **knobs: Any
) -> ResumingEngine:
    config, model = engine_settings(model, pages, **knobs)
    return ResumingEngine(config, executor(model))


def run(engine: ResumingEngine, points: Points) -> Results:
    """Half of the load comes at once, the rest later; in between somebody asks, and the time passes."""
    coming: dict[int, list[Command]] = {0: [*load()[:5]], 6: [Tick(1), *load()[5:]], 9: [Ask(1, "progress"), Tick(2)]}
    results = Results()
    for at in range(5000):
        with points.counting():
            outputs = engine.step(coming.pop(at, []))
        results.take(outputs.news())
        if not coming and not engine.has_work():
            return results
    raise AssertionError("it did not come to rest")


class Rig:
    """What a load comes to where nothing fails, and at how many points of its iterations something may."""

    def __init__(self, shape: dict[str, Any]) -> None:
        self.shape, points = shape, Points(in_engine)
        engine = resuming(**shape)
        self.expected = run(engine, points)
        self.finished = engine.counters.finished
        self.in_all = points.passed

    def check(self, at: int) -> int:
        """A fault at this point costs nobody anything. Whether it was one: Python drops some errors."""
        engine, points = resuming(**self.shape), Points(in_engine)
        points.at = at
        found = run(engine, points)
        assert found.errors == {}
        assert (found.tokens, found.finish) == (self.expected.tokens, self.expected.finish)
        assert (found.prompts, found.totals) == (self.expected.prompts, self.expected.totals)
        assert _told_of(found.logprobs, self.shape) == _told_of(self.expected.logprobs, self.shape)
        assert_sound(engine)
        assert engine.counters.finished == self.finished
        assert engine.counters.resumptions <= engine.counters.refused.total() <= 1
        return engine.counters.refused.total()


def assert_sound(engine: ResumingEngine) -> None:
    """The laws hold, and nobody has anything but pins and sessions."""
    assert engine.step([Ask(1, "verify")]).answers[0].value == ""
    assert not [*engine.engine.scheduler.running, *engine.engine.scheduler.waiting]
    assert not engine.engine.scheduler.trials
    assert all(group.in_transit == 0 for group in engine.engine.heap.stats())


def _told_of(logprobs: Any, shape: dict[str, Any]) -> Any:
    """Of steps planned ahead their number: what the simulator reports depends on whether it knew the token before."""
    return {name: len(told) for name, told in logprobs.items()} if shape.get("pipeline_depth") == 2 else logprobs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a point while a generator is closed
def test_a_fault_at_any_point_costs_nobody_anything(shape: str, request: pytest.FixtureRequest) -> None:
    rig, points = Rig(SHAPES[shape]), int(request.config.getoption("--fault-points"))
    assert rig.in_all > 10_000
    felt = sum(rig.check((2 * part + 1) * rig.in_all // (2 * points)) for part in range(points))
    assert felt > points / 2


# ---- what fails again and again


ALONE = r"MemoryError: no memory for {} \((taking it|planning|booking a step) fails for this request alone, others go "


class Fault:
    """Raises whenever a function is called for a request of this name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], name: str) -> None:
        original = getattr(*where)

        self.calls = 0

        def failing(*arguments: Any, **named: Any) -> Any:
            if name in {getattr(one, "id", getattr(one, "request_id", one)) for one in arguments[:2] if _is_named(one)}:
                self.calls += 1
                raise MemoryError(f"no memory for {name}")
            return original(*arguments, **named)

        monkeypatch.setattr(*where, failing)


def _is_named(one: object) -> bool:
    return isinstance(one, str | Submit | Request)


@pytest.mark.parametrize("name", ["r0", "r1#0", "r2", "r3#0", "r7"])
@pytest.mark.parametrize(
    "where",
    [
        (Intake, "open"),
        (Heap, "open"),
        (Scheduler, "_enter"),
        (Scheduler, "_sit"),
        (Scheduler, "_gain"),
        (Scheduler, "_stand"),
        (Scheduler, "_seal"),
        (Scheduler, "_finish"),
    ],
    ids=lambda where: where[1],
)
@pytest.mark.parametrize("shape", ["short", "window"])
def test_who_cannot_be_served_ends_alone(
    shape: str, where: tuple[Any, str], name: str, rigs: dict[str, Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rigs[shape]
    fault = Fault(monkeypatch, where, name)
    engine = resuming(**rig.shape)
    found = run(engine, Points(in_engine))
    family = name.partition("#")[0]
    assert {other.partition("#")[0] for other in found.errors} <= {family}
    assert bool(found.errors) == bool(fault.calls)
    for other, error in found.errors.items():
        assert re.match(ALONE.format(name), error)
        assert found.finish.pop(other) == "error"
        tokens = found.tokens.pop(other)
        assert tokens == rig.expected.tokens[other][: len(tokens)]
    assert found.tokens == {other: rig.expected.tokens[other] for other in found.tokens}
    assert found.finish == {other: rig.expected.finish[other] for other in found.finish}
    assert found.tokens.keys() | found.errors.keys() == rig.expected.tokens.keys()
    assert_sound(engine)
    assert engine.counters.finished["error"] == len(found.errors)


@pytest.fixture(scope="module")
def rigs() -> dict[str, Rig]:
    return {name: Rig(shape) for name, shape in SHAPES.items()}


def test_a_question_that_cannot_be_answered_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise MemoryError("too large")

    engine = resuming()
    engine.step([submit("a", [1] * 9, max_tokens=5)])
    monkeypatch.setattr("infergc.engine.inquiries.dump", never)
    outputs = engine.step([Ask(3, "heap"), Ask(4, "progress")])
    errors = {answer.number: answer.error for answer in outputs.answers}
    assert errors.keys() == {3, 4}
    assert "too large" in errors[3]
    assert errors[4] == ""
    assert engine.has_work()


@pytest.mark.parametrize("where", [(Heap, "crossing"), (Pacer, "run")], ids=str)
def test_what_fails_for_nobodys_sake_ends_it(where: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise MemoryError("never")

    engine = resuming()
    monkeypatch.setattr(*where, never)
    with pytest.raises(MemoryError, match="never"):
        run(engine, Points(in_engine))


def test_moves_that_are_lost_cost_the_cache_alone() -> None:
    class Gone(DoneFlight):
        def result(self) -> StepOutcome:
            raise StorageLost("a page could not be moved")

    class Broken(SimExecutor):
        once = True

        def launch(self, plan: StepPlan) -> DoneFlight:
            flight = super().launch(plan)
            if plan.step == 9 and self.once:
                self.once = False
                return Gone(flight.result())
            return flight

    rig = Rig(SHAPES["short"])
    engine = resuming(executor=Broken, **rig.shape)
    found = run(engine, Points(in_engine))
    assert (found.tokens, found.errors) == (rig.expected.tokens, {})
    assert engine.counters.resumptions == 1
    assert engine.counters.refused.total() == 0, "that is not what failed"


def test_memory_that_is_short_for_a_while_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building another engine fails as well, twice."""
    rig, engine, calls = Rig(SHAPES["short"]), resuming(**SHAPES["short"]), [0]
    build = Engine.resume

    def scarce(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] < 3:
            raise MemoryError("still none")
        return build(*arguments)

    monkeypatch.setattr(Engine, "resume", scarce)
    points = Points(in_engine)
    points.at = rig.in_all // 2
    assert run(engine, points).tokens == rig.expected.tokens
    assert (calls[0], engine.counters.resumptions) == (3, 1)


def test_what_failed_twice_in_a_row_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the step was booked: what an engine counted that told nothing is nobody's."""
    requests = [
        submit("a", [1] * 9, max_tokens=5, ignore_eos=True),
        submit("b", [2] * 9, max_tokens=9, ignore_eos=True),
    ]
    original, calls = Pacer.run, [0]

    def fails_twice(self: Pacer, *, idle: bool) -> Any:
        calls[0] += 1
        if calls[0] in {5, 6}:
            raise MemoryError("twice")
        return original(self, idle=idle)

    monkeypatch.setattr(Pacer, "run", fails_twice)
    engine = resuming()
    engine.step([*requests])
    while engine.has_work():
        engine.step()
    assert engine.counters.resumptions == engine.counters.refused["upkeep"] == 2
    assert engine.counters.finished == {"length": 2}
    assert engine.engine.scheduler.counters.generation_tokens == 14


def test_settings_that_were_changed_stay() -> None:
    engine = resuming()
    engine.step([Ask(1, "settings", {"max_sessions": 3, "pin_budget": 0.25})])
    points = Points(in_engine)
    points.at = 5
    with points.counting():
        engine.step([submit("a", [1] * 9, max_tokens=5)])
    assert engine.counters.resumptions == 1
    values = engine.step([Ask(2, "settings")]).answers[0].value
    assert (values["max_sessions"], values["pin_budget"]) == (3, 0.25)


def test_a_request_of_a_name_that_runs_is_refused_and_the_other_goes_on() -> None:
    """And what was told of that other is not forgotten."""
    first = submit("a", [1] * 9, max_tokens=12, ignore_eos=True)
    expected, engine, points = Results(), resuming(), Points(in_engine)
    for found, one in ((expected, resuming()), (Results(), engine)):
        found.take(one.step([first]).news())
        while one.has_work():
            if one is engine and len(found.tokens["a"]) == 4:
                news = one.step([submit("a", [2] * 5)]).news()
                assert [delta.error[:10] for delta in news if delta.error] == ["request_id"]
                found.take([delta for delta in news if not delta.error])
                points.at = points.passed
            with points.counting():
                found.take(one.step().news())
        assert found.tokens == expected.tokens
    assert engine.counters.resumptions == 1
