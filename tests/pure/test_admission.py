"""What must be free before a request starts, who gives way, and what comes of it under a pool too small."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.engine.messages import Abort
from infergc.policies.admission.learned import Learned
from infergc.policies.preemption.spared import Spared
from infergc.sched.fitting import peak
from infergc.sched.scheduler import Scheduler
from infergc.sim.catalog import geometry_named
from infergc.sim.cost import Roofline
from infergc.sim.devices import device_named
from infergc.sim.simulate import Run, Setup, simulate
from infergc.sim.workloads import workload
from samples.engines import make_engine, run, submit


def ints(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    return np.array(values, np.int32)


def walk(growth: list[int], freed: list[int]) -> int:
    """The peak by going step by step."""
    held, most = 0, 0
    for step in range(max(growth) + 1):
        held -= sum(g + f for g, f in zip(growth, freed, strict=True) if g == step - 1)
        held += sum(1 for g in growth if step and g >= step)
        most = max(most, held)
    return most


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50)), min_size=1, max_size=8))
def test_the_peak_is_what_walking_step_by_step_finds(each: list[tuple[int, int]]) -> None:
    growth, freed = [g for g, _ in each], [f for _, f in each]
    assert peak(ints(*growth), ints(*freed)) == walk(growth, freed)


def test_before_anybody_ended_as_much_again_is_expected() -> None:
    assert Learned().growth(np.arange(3), ints(0, 10, 200)).tolist() == [0, 10, 200]


def test_growth_is_spread_over_what_others_gave() -> None:
    policy = Learned()
    for output in range(1, 101):
        policy.learn(output)
    fresh = policy.growth(np.arange(64), np.zeros(64, np.int32))
    assert abs(int(fresh.mean()) - 50) <= 3
    assert min(fresh) < 10
    assert max(fresh) > 90
    late = policy.growth(np.arange(64), np.full(64, 80, np.int32))
    assert 0 < min(late) <= max(late) <= 20
    assert policy.growth(np.arange(1), ints(300)).tolist() == [300], "beyond all that ended"


def test_only_the_latest_outputs_are_remembered() -> None:
    policy = Learned(memory=4)
    for output in [1000] * 10 + [8] * 4:
        policy.learn(output)
    assert policy.growth(np.arange(3), np.zeros(3, np.int32)).tolist() == [8, 8, 8]


def test_texts_that_a_stop_string_ended_teach_as_others_do() -> None:
    engine = make_engine()
    engine.step([submit("a", [5] * 20, max_tokens=200)])
    for _ in range(10):
        engine.step()
    engine.step([Abort("a", stopped=True)])
    growth = engine.scheduler.fitting.admission.growth(np.arange(1), np.zeros(1, np.int32))
    assert 8 <= growth[0] <= 12


def long_outputs(admission: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Counter[str]]:
    """A load whose outputs are fifteen times its prompts, in a quarter of the memory that it would take."""
    model, counts = geometry_named("llama-3-8b"), Counter[str]()
    preempt = Scheduler._preempt

    def noted(self: Scheduler, victim: object) -> None:
        counts[victim.id] += 1  # type: ignore[attr-defined]
        preempt(self, victim)  # type: ignore[arg-type]

    monkeypatch.setattr(Scheduler, "_preempt", noted)
    requests = workload("system-prompts:requests=120,rate=4,share=0,system=0,tail=100,output=400,context=4096")
    settings = {"admission_policy": admission, "max_num_batched_tokens": 2048}
    cost = Roofline(model, device_named("a100-80g"))
    run = simulate(Setup(model, cost, 5000 * model.kv_bytes_per_token, "lru", settings=settings), requests)
    monkeypatch.setattr(Scheduler, "_preempt", preempt)
    return run, counts


def test_a_pool_of_a_quarter_does_not_thrash(monkeypatch: pytest.MonkeyPatch) -> None:
    run, counts = long_outputs("learned", monkeypatch)
    assert run.figures["finished"] == 120
    assert sorted(counts.values())[-2:] <= [2, 2], "99 in a hundred give way at most twice"
    loose, storm = long_outputs("page-each", monkeypatch)
    assert sum(counts.values()) < 0.8 * sum(storm.values())
    assert run.figures["recomputed_tokens"] < 0.8 * loose.figures["recomputed_tokens"]
    assert run.figures["seconds"] < 1.05 * loose.figures["seconds"]


def test_who_gave_way_often_is_spared() -> None:
    class Stub:
        def __init__(self, preemptions: int) -> None:
            self.preemptions = preemptions

    def chosen(*preemptions: int) -> int:
        running = [Stub(each) for each in preemptions]
        return running.index(Spared().victim(running))  # type: ignore[arg-type]

    assert chosen(0, 0, 0) == 2
    assert chosen(0, 1, 2) == 1
    assert chosen(2, 3, 2) == 2


def test_what_fits_to_its_end_is_let_in_at_once() -> None:
    """A page for each to go on was once asked for beside what all were expected to grow by: a fifth of memory idled."""
    engine = make_engine(pages=36, max_num_seqs=8, max_num_batched_tokens=512, enable_prefix_caching=False)
    run(engine, [submit("teaches", [9] * 64, max_tokens=8)])
    engine.step([submit(f"r{at}", [at + 1] * 64, max_tokens=8) for at in range(7)])  # five pages each
    for _ in range(3):
        engine.step()
    assert len(engine.scheduler.running) == 7
