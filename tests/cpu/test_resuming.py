"""An engine with a real model begins anew, in the middle of whatever it does: all texts stay as they were."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cpu.families import make_family
from cpu.test_step_faults import SHAPES, load
from infergc.config import EngineConfig, engine_config
from infergc.engine.messages import Ask
from infergc.engine.resuming import ResumingEngine, build_resuming_engine
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.worker.runner import StepRunner
from samples.engines import Results
from samples.faults import Points, in_engine

DISK = "disk"


def run(engine: ResumingEngine, points: Points) -> Results:
    results, commands = Results(), load()
    while commands or engine.has_work():
        with points.counting():
            outputs = engine.step(commands)
        results.take(outputs.news())
        commands = []
    return results


@pytest.fixture(scope="module", params=[*SHAPES, DISK])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    family, shape = SHAPES["short" if request.param == DISK else request.param]
    directory = tmp_path_factory.mktemp(family)
    disk = {"disk_cache_dir": directory / "cache", "disk_cache_size": "64MiB"} if request.param == DISK else {}
    return engine_config(
        model=make_family(family, directory), dtype="float32", deterministic=True, max_num_seqs=6,
        max_num_batched_tokens=48, heap_debug=request.param == "short", **shape, **disk,
    )  # fmt: skip


@pytest.fixture
def engine(config: EngineConfig) -> Iterator[ResumingEngine]:
    made = build_resuming_engine(config)
    yield made
    made.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_fault_anywhere_in_the_engine_changes_no_text(engine: ResumingEngine, request: pytest.FixtureRequest) -> None:
    points = Points(in_engine)
    expected = run(engine, points)
    in_all, faults = points.passed, int(request.config.getoption("--fault-points"))
    for part in range(faults):
        points.passed, points.at = 0, (2 * part + 1) * in_all // (2 * faults)
        found = run(engine, points)
        assert (found.tokens, found.finish, found.errors) == (expected.tokens, expected.finish, {})
        assert engine.step([Ask(1, "verify")]).answers[0].value == ""
        assert all(group.live == group.in_transit == 0 for group in engine.engine.heap.stats())
    assert faults / 2 < engine.counters.refused.total() <= faults
    assert engine.counters.corruptions == 0


def test_the_memory_of_an_engine_that_failed_is_given_back_at_once(engine: ResumingEngine) -> None:
    executor: Any = engine._executor
    run(engine, Points(in_engine))
    storage = weakref.ref(executor._runner._storage)
    points = Points(in_engine)
    points.at = 300
    gc.disable()
    try:
        run(engine, points)
        assert engine.counters.resumptions == 1
        assert storage() is None, "what lies in cycles would stay for long"
    finally:
        gc.enable()


def test_pages_that_cannot_be_moved_cost_the_cache_alone(
    engine: ResumingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(engine, Points(in_engine))
    executor: Any = engine._executor
    storage, calls = type(executor._runner._storage), [0]
    apply = storage.apply

    def fails(self: Any, moves: Any) -> None:
        calls[0] += 1
        if 10 < calls[0] <= 13:
            raise MemoryError("no memory for views")
        apply(self, moves)

    monkeypatch.setattr(storage, "apply", fails)
    found = run(engine, Points(in_engine))
    assert (found.tokens, found.errors) == (expected.tokens, {})
    assert engine.counters.resumptions == (calls[0] > 13)


@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_step_that_never_begins_on_its_thread_holds_nobody_up(
    engine: ResumingEngine, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its moves are not made, and copies for later steps wait for them."""
    expected = run(engine, Points(in_engine))
    original, calls = StepRunner.run, [0]

    def fails(self: StepRunner, plan: StepPlan, *rest: Any) -> StepOutcome:
        calls[0] += bool(plan.moves)
        if plan.moves and calls[0] == at:
            raise MemoryError("no memory to begin")
        return original(self, plan, *rest)

    monkeypatch.setattr(StepRunner, "run", fails)
    found = run(engine, Points(in_engine))
    assert (found.tokens, found.errors) == (expected.tokens, {})
    assert engine.counters.resumptions == (calls[0] >= at)


def test_what_lies_on_disk_is_found_again(config: EngineConfig, tmp_path: Path) -> None:
    engine = build_resuming_engine(config.model_copy(update={"disk_cache_dir": tmp_path, "host_cache_memory": 4 << 20}))
    run(engine, Points(in_engine))
    points = Points(in_engine)
    points.at = 10
    run(engine, points)
    assert engine.counters.resumptions == 1
    assert engine.engine.scheduler.counters.prefix_hits_disk > 0
    engine.close()


def test_an_engine_is_built_when_the_memory_of_the_last_is_free(
    engine: ResumingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a step of the last one failed that nobody asked for: its error holds frames, and those the storage."""
    executor: Any = engine._executor
    run(engine, Points(in_engine))
    runner = executor._runner
    storage, lasted = weakref.ref(runner._storage), list[bool]()
    allocate = executor.allocate

    def look(*args: Any) -> None:
        lasted.append(storage() is not None)
        allocate(*args)

    def fails(*_: object) -> NoReturn:
        raise RuntimeError("for a test")

    engine.step(load())
    executor._thread.submit(int).result()
    monkeypatch.setattr(StepRunner, "_compute", fails)
    engine.engine._launch()
    monkeypatch.setattr(engine.engine, "_commit", fails)
    monkeypatch.setattr(executor, "allocate", look)
    del runner
    gc.disable()
    try:
        engine.step()
        assert (engine.counters.resumptions, lasted) == (1, [False])
    finally:
        gc.enable()
        monkeypatch.undo()
