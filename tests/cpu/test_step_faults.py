"""A step of a real model fails, at any point: who can be answered is, byte for byte as if nothing had been."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpu.families import make_family
from infergc.config import engine_config
from infergc.engine.assembly import build_engine
from infergc.engine.loop import Engine
from infergc.engine.messages import Ask, Submit
from infergc.heap.errors import StorageLost
from samples.engines import Results, run, submit
from samples.faults import Points, Poison, watch_worker

LENGTHS = (70, 5, 41, 90, 33, 17)
TOKENS = 14
ROOMY = {"kv_cache_memory": "4MiB", "pipeline_depth": 1}
SHORT = {
    "kv_cache_memory": "180KiB",
    "pipeline_depth": 2,
    "admission_policy": "page-each",
    "host_cache_memory": "4MiB",
    "preemption": "swap",
    "tiering_policy": "always",
}
SHAPES = {"roomy": ("llama3", ROOMY), "short": ("qwen2_mixed", SHORT)}
FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
ANYWHERE = st.floats(0, 1, exclude_max=True)


def load() -> list[Submit]:
    """Requests that share prefixes and draw by all that a sampler keeps for them; one has several texts."""
    knobs: list[dict[str, Any]] = [
        {"repetition_penalty": 1.2},
        {"logit_bias": {3: 2.0}},
        {"n": 2},
        {"presence_penalty": 0.5, "logprobs": 3},
        {"temperature": 0.0},
        {"min_tokens": 5},
    ]
    return [
        submit(
            f"r{at}", [*[(i * 7) % 131 for i in range(length - 1)], at],
            **{"max_tokens": TOKENS, "ignore_eos": True, "temperature": 1.2, "seed": at, **more},
        )
        for at, (length, more) in enumerate(zip(LENGTHS, knobs, strict=True))
    ]  # fmt: skip


class Rig:
    """An engine that stays from example to example, and what it says when nothing fails."""

    def __init__(self, directory: Path, **shape: Any) -> None:
        self.engine: Engine = build_engine(
            engine_config(
                model=directory, dtype="float32", deterministic=True, max_num_seqs=6, max_num_batched_tokens=48, **shape
            )
        )
        self.points, self.poison = Points(), Poison(self.engine)
        watch_worker(self.engine, self.points)
        run(self.engine, load())  # so that what is cached is the same for all that follows
        self.points.passed = 0
        self.expected = run(self.engine, load())
        self.in_all = self.points.passed
        self.steps = self.engine.counters.steps

    def run(self) -> Results:
        """The load, in the end nothing is held, and the laws hold."""
        results = run(self.engine, load(), check=False)
        assert self.engine.step([Ask(1, "verify")]).answers[0].value == ""
        assert all(group.live == group.in_transit == 0 for group in self.engine.heap.stats())
        assert len(self.engine.heap._slots) == 6
        assert not self.engine.scheduler.trials
        return results

    def failures(self) -> tuple[int, int, int]:
        counters = self.engine.counters
        return counters.failed_steps, counters.refused["step"], self.engine.scheduler.trials.retried


@pytest.fixture(scope="module", params=SHAPES)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    family, shape = SHAPES[request.param]
    made = Rig(make_family(family, tmp_path_factory.mktemp(family)), **shape)
    yield made
    made.engine.close()


def test_the_load_uses_what_may_fail(rig: Rig) -> None:
    assert not rig.expected.errors
    assert rig.in_all > 2000
    counters, tiers = rig.engine.scheduler.counters, rig.engine.heap.tiers
    assert rig.engine.heap.counters.copies > 0
    if tiers is not None:
        assert counters.preemptions > 0
        assert min(tiers.counters.promoted, tiers.counters.demoted) > 0


@FEW
@given(where=ANYWHERE)
def test_one_fault_costs_nobody_an_answer(rig: Rig, where: float) -> None:
    rig.points.passed, rig.points.at = 0, int(where * rig.in_all)
    before = rig.failures()
    results = rig.run()
    assert results.tokens == rig.expected.tokens
    assert results.finish == rig.expected.finish
    after = rig.failures()
    failed = after[0] - before[0]
    assert failed <= 1  # none where a move was made at the second attempt
    assert after[1] - before[1] == failed
    assert (after[2] > before[2]) == bool(failed)
    rig.points.at = -1


@FEW
@given(victim=st.sampled_from([f"r{at}" for at in range(len(LENGTHS)) if at != 2]), point=st.integers(0, 160))
def test_a_request_that_cannot_be_computed_ends_alone(rig: Rig, victim: str, point: int) -> None:
    before = rig.failures()
    rig.poison.name, rig.poison.point = victim, point
    results = rig.run()
    rig.poison.name = ""
    assert results.finish.pop(victim) == "error"
    assert results.errors[victim].startswith("MemoryError: no memory at ")
    assert "others go on; a smaller --max-num-batched-tokens" in results.errors[victim]
    assert results.tokens.pop(victim) == []
    assert results.tokens == {name: tokens for name, tokens in rig.expected.tokens.items() if name != victim}
    assert results.finish == {name: why for name, why in rig.expected.finish.items() if name != victim}
    assert rig.failures() > before


@FEW
@given(where=ANYWHERE, late=st.booleans())
def test_a_step_that_cannot_be_launched_runs_again(rig: Rig, where: float, late: bool) -> None:
    """Before anything of it was begun, or when its copies between device and host were."""
    engine: Any = rig.engine
    owner, name = (engine._executor._thread, "submit") if late else (engine._executor, "launch")
    original, calls = getattr(owner, name), [0]

    def fails_once(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1 + int(where * rig.steps / 2):
            raise RuntimeError("can't start new thread")
        return original(*arguments)

    setattr(owner, name, fails_once)
    results = rig.run()
    setattr(owner, name, original)
    assert results.tokens == rig.expected.tokens


def test_a_step_that_failed_leaves_no_tensors_in_cycles(rig: Rig) -> None:
    """Its error came with a traceback, whose frames hold the step's tensors, and the future that holds the error."""
    executor: Any = rig.engine._executor
    sampler, sample, calls = executor._runner._sampler, executor._runner._sampler.sample, [0]

    def fails_once(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise RuntimeError("for a test") from ValueError("why")
        return sample(*arguments)

    executor.census(0)  # what is there already is the model's
    gc.collect()
    gc.disable()
    try:
        sampler.sample = fails_once
        rig.run()
        executor.census(0)
        gc.collect()
        census = executor.census(0)
    finally:
        gc.enable()
        del sampler.sample
    assert calls[0] > 3
    assert census.cycles == ()


def test_what_cannot_be_moved_ends_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's page does not hold what it should: no later answer could be trusted."""
    rig = Rig(make_family("qwen2_mixed", tmp_path), **SHORT)

    def fails(*_: Any) -> None:
        raise MemoryError("no memory for views")

    executor: Any = rig.engine._executor
    monkeypatch.setattr(executor._runner._storage, "transfer", fails)
    with pytest.raises(StorageLost, match=r"no memory for views, while \d+ pages of group \d were to be moved"):
        run(rig.engine, load())
    monkeypatch.undo()
    executor.close()
