"""The engine loop and scheduler under the simulated executor, the laws checked after every step."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infergc.config import ConfigError
from infergc.engine.messages import Abort, Answer, Ask, Shutdown, Submit
from infergc.engine.record import Recorder, replay
from infergc.heap.groups import GroupSpec
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim.executor import DoneFlight, SimExecutor
from samples.engines import VOCAB, Results, facts, make_engine, run, submit

FULL = (GroupSpec("full", 1000),)
MIXED = (GroupSpec("full", 1000), GroupSpec("window", 600, window=40))
WINDOW = (GroupSpec("window", 600, window=40),)


def mixed_load(count: int = 24) -> list[Submit]:
    """Prompts that share prefixes of many lengths, half of them free to end early."""
    rng = np.random.default_rng(1)
    base = rng.integers(0, VOCAB, 100).tolist()
    return [
        submit(
            f"r{i}",
            base[: int(rng.integers(0, 100))] + rng.integers(0, VOCAB, int(rng.integers(1, 120))).tolist(),
            max_tokens=int(rng.integers(1, 120)),
            ignore_eos=bool(i % 2),
        )
        for i in range(count)
    ]


def unbatched(load: list[Submit], **settings: object) -> Results:
    """Each request alone, in a fresh engine with room for everything."""
    results = Results()
    for one in load:
        results.take_all(run(make_engine(facts(eos=(3,)), pages=200, **settings), [one], check=False))
    return results


@pytest.fixture(scope="module")
def load() -> list[Submit]:
    return mixed_load()


@pytest.fixture(scope="module")
def alone(load: list[Submit]) -> Results:
    return unbatched(load)


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("pages", [40, 200])
@pytest.mark.parametrize("groups", [FULL, MIXED, WINDOW], ids=["full", "mixed", "window"])
def test_batching_memory_and_depth_never_change_the_tokens(load, alone, groups, pages, depth, caching):
    engine = make_engine(facts(groups, eos=(3,)), pages=pages, pipeline_depth=depth, enable_prefix_caching=caching)
    results = run(engine, list(load))
    assert results.tokens == alone.tokens
    assert results.finish == alone.finish
    stats = engine.heap.stats()
    assert all(group.live == group.in_transit == 0 for group in stats)
    if groups is not WINDOW and pages == 40:
        assert engine.scheduler.counters.preemptions > 0
    if caching:
        assert engine.scheduler.counters.prefix_hits > 0


def test_a_step_mixes_decodes_with_prompt_chunks_and_keeps_its_token_budget():
    recorder = PlanLog()
    engine = make_engine(sinks=[recorder], max_num_batched_tokens=32)
    results = Results()
    results.take(engine.step([submit("short", [1, 2, 3], max_tokens=40, ignore_eos=True)]).news())
    for _ in range(3):
        results.take(engine.step().news())
    before = len(recorder.plans)
    results.take(engine.step([submit("long", list(range(40)) * 5, max_tokens=2, ignore_eos=True)]).news())
    while "long" not in results.tokens:
        results.take(engine.step().news())
    chunks = recorder.plans[before:]
    assert len(chunks) == 7  # 200 tokens in chunks of 31 beside one decode
    assert all(plan.tokens <= 32 for plan in chunks)
    assert all(plan.counts[0] == 1 and plan.sample[0] for plan in chunks), "the decode never pauses"
    assert chunks[0].counts[1] == 31


@pytest.mark.parametrize("depth", [1, 2])
def test_an_abort_frees_within_one_step(depth):
    engine = make_engine(pipeline_depth=depth, enable_prefix_caching=False)
    engine.step([submit("a", [5] * 100, max_tokens=100), submit("b", [6] * 50, max_tokens=100)])
    for _ in range(5):
        engine.step()
    live = engine.heap.stats()[0].live
    outputs = engine.step([Abort("a"), Abort("unknown")])
    engine.step()
    engine.heap.check()
    assert [delta.finish for delta in outputs.news() if delta.request_id == "a"] == ["abort"]
    stats = engine.heap.stats()[0]
    assert stats.live < live - 5
    assert stats.in_transit == 0
    engine.step([Abort("b")])
    while engine.has_work():
        engine.step()
    assert engine.heap.stats()[0].free == 64


def test_a_late_stop_is_rolled_back():
    """At depth 2 the step after the end token is in flight already; nothing of it stays."""
    prompt = [9] * 15
    free_run = run(make_engine(), [submit("x", prompt, max_tokens=30, ignore_eos=True)]).tokens["x"]
    end = free_run[4]
    stop_at = free_run.index(end)
    engine = make_engine(facts(eos=(end,)), pipeline_depth=2)
    results = run(engine, [submit("x", prompt, max_tokens=30)])
    assert results.tokens["x"] == free_run[: stop_at + 1]
    assert results.finish["x"] == "stop"
    cached = engine.heap.stats()[0].cached
    assert cached == (len(prompt) + stop_at) // 16, "only computed, known tokens were published"


@pytest.mark.parametrize("depth", [1, 2])
def test_stop_ids_end_a_text_once_it_has_its_least_tokens(depth):
    prompt = [9] * 15
    (free_run,) = run(make_engine(), [submit("x", prompt, max_tokens=30, ignore_eos=True)]).tokens.values()
    stop = free_run[4]
    first = free_run.index(stop)
    engine = make_engine(facts(eos=(stop,)), pipeline_depth=depth)
    results = run(
        engine,
        [
            submit("id", prompt, max_tokens=30, ignore_eos=True, stop_token_ids=(stop,), seed=ord("x")),
            submit("late", prompt, max_tokens=30, min_tokens=first + 2, stop_token_ids=(stop,), seed=ord("x")),
        ],
    )
    assert results.tokens["id"] == free_run[: first + 1]
    assert results.finish["id"] == "stop"
    assert len(results.tokens["late"]) >= first + 2
    assert results.tokens["late"] == free_run[: len(results.tokens["late"])]


def test_recomputation_after_preemption_is_never_counted_as_a_hit():
    load = [submit(f"r{i}", [i] * 60, max_tokens=100, ignore_eos=True) for i in range(6)]
    engine = make_engine(pages=24, pipeline_depth=2)
    run(engine, load)
    counters = engine.scheduler.counters
    assert counters.preemptions > 0
    assert counters.recomputed_tokens > 0
    assert counters.prefix_hits == 0
    assert counters.prefix_queries == counters.prompt_tokens == 360


def test_a_second_identical_prompt_hits_all_but_its_last_token():
    engine = make_engine()
    prompt = list(range(40)) + list(range(10))
    run(engine, [submit("first", prompt, max_tokens=20, ignore_eos=True)])
    results = run(engine, [submit("second", prompt, max_tokens=3)])
    assert results.cached == {"second": 49}
    assert engine.heap.counters.copies == 1, "the part of a page was copied, not shared for writing"


def test_a_salt_keeps_tenants_apart():
    engine = make_engine()
    prompt = list(range(48))
    run(engine, [submit("one", prompt, max_tokens=1, salt="a")])
    assert run(engine, [submit("two", prompt, max_tokens=1, salt="b")]).cached["two"] == 0
    assert run(engine, [submit("three", prompt, max_tokens=1, salt="a")]).cached["three"] == 47


def test_priority_policy_serves_the_urgent_first():
    engine = make_engine(scheduling_policy="priority", max_num_seqs=1)
    names = {"late": 5, "urgent": -1, "normal": 0}
    results = run(engine, [submit(name, [7] * 20, priority=p, max_tokens=2) for name, p in names.items()])
    assert list(results.finish) == ["urgent", "normal", "late"]


def test_a_window_bounds_what_a_sequence_keeps():
    engine = make_engine(facts(WINDOW, max_len=4096), pages=40, enable_prefix_caching=False, max_num_batched_tokens=32)
    most = 0
    engine.step([submit("x", [1] * 600, max_tokens=100, ignore_eos=True)])
    while engine.has_work():
        engine.step()
        engine.heap.check()
        most = max(most, engine.heap.stats()[0].live)
    assert most <= (40 + 32) // 16 + 2


def test_a_step_that_fails_once_ends_nobody():
    class Faulty(SimExecutor):
        def launch(self, plan: StepPlan) -> DoneFlight:
            flight = super().launch(plan)
            return Broken(flight.result()) if plan.step == 3 else flight

    class Broken(DoneFlight):
        def result(self) -> StepOutcome:
            raise MemoryError("no memory for activations")

    load = [submit("a", [1] * 10, max_tokens=10), submit("b", [2] * 10, max_tokens=10)]
    engine = make_engine(executor_class=Faulty, pipeline_depth=2, max_num_seqs=1)
    outcome = run(engine, load)
    assert outcome.finish == {"a": "length", "b": "length"}
    assert outcome.tokens == run(make_engine(), load).tokens
    assert engine.counters.failed_steps == engine.counters.refused["step"] == engine.scheduler.trials.retried == 1


def test_what_cannot_run_is_refused_with_a_reason():
    engine = make_engine()
    results = run(
        engine,
        [submit("long", [1] * 512), submit("empty", []), submit("ids", [VOCAB]), submit("ok", [1]), submit("ok", [1])],
    )
    assert results.finish["long"] == results.finish["empty"] == results.finish["ids"] == "error"
    assert "1 to 511 are allowed" in results.errors["long"]
    assert "0 to 49" in results.errors["ids"]
    assert "running already" in results.errors["ok"]
    assert engine.step([Ask(1, "verify")]).answers == [Answer(1, "")]


def test_shutdown_aborts_everything():
    engine = make_engine(pipeline_depth=2)
    engine.step([submit("a", [1] * 10, max_tokens=50), submit("b", [1] * 10, max_tokens=50)])
    results = Results()
    results.take(engine.step([Shutdown()]).news())
    assert results.finish == {"a": "abort", "b": "abort"}
    engine.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"pages": 0, "kv_cache_memory": 10},
            "^--kv-cache-memory: 10 B; the least that works is --kv-cache-memory 1MiB",
        ),
        ({"max_model_len": 1000}, "--max-model-len: 1000 is over the model's context of 512 tokens"),
        ({"max_model_len": 512, "pages": 4}, "holds 64 tokens"),
        ({"executor": "infergc.nowhere:create"}, "--executor"),
    ],
)
def test_settings_that_do_not_fit_name_their_flag(settings, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        make_engine(use_config_executor="executor" in settings, **settings)


def test_a_short_memory_shortens_the_longest_text():
    assert make_engine(pages=10).ready.max_model_len == 160


class PlanLog(Recorder):
    """Keeps the plans themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[StepPlan] = []

    def planned(self, plan: StepPlan) -> None:
        super().planned(plan)
        self.plans.append(plan)


@pytest.mark.parametrize("depth", [1, 2])
def test_recorded_outcomes_replayed_give_the_same_event_stream(load, depth):
    first, second = Recorder(), Recorder()
    run(make_engine(facts(MIXED, eos=(3,)), pages=40, pipeline_depth=depth, sinks=[first]), list(load))
    shape = facts(MIXED, eos=(3,))
    replay(first, make_engine(shape, pages=40, pipeline_depth=depth, sinks=[second], record=first.outcomes))
    assert first.events == second.events
    assert len(first.events) > 200


def test_the_event_stream_is_the_same_in_another_process():
    """Law 10: no hash order, address or clock enters a plan."""
    script = (
        "import hashlib; from pure.test_engine import *; r = Recorder()\n"
        "run(make_engine(facts(MIXED, eos=(3,)), pages=40, pipeline_depth=2, sinks=[r]), list(mixed_load()))\n"
        "print(hashlib.sha256('\\n'.join(r.events).encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{root / 'tests'}:{root / 'src'}", "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_sampling_parameters_reach_the_executor_once_and_again_after_preemption():
    recorder = PlanLog()
    engine = make_engine(pages=24, sinks=[recorder])
    run(engine, [submit(f"r{i}", [i] * 60, max_tokens=100, ignore_eos=True, temperature=0.5) for i in range(6)])
    bound = [binding for plan in recorder.plans for binding in plan.bindings]
    assert len(bound) == 6 + engine.scheduler.counters.preemptions
    resumed = [binding for binding in bound if len(binding.output)]
    assert resumed
    assert all(binding.params.temperature == 0.5 for binding in bound)
    assert all(len(binding.prompt) == 60 for binding in bound)
