"""Steps that fail for one request, or for too much company."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infergc.engine.faults import is_refusal
from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.engine.stats import snapshot
from infergc.heap.errors import StorageLost
from infergc.heap.groups import GroupSpec
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim.executor import DoneFlight, SimExecutor
from samples.engines import Results, facts, make_engine, run, submit
from samples.lengths import at_length

MANY = 16
DEPTHS = pytest.mark.parametrize("depth", [1, 2])
SETTINGS = ["cached", "uncached", "window"]
CHOICES, BEAMS = {"n": 4}, {"n": 2, "use_beam_search": True}
FAILING = at_length(
    [((CHOICES, BEAMS)[step % 2], step) for step in range(8, 24)],
    [(branching, step) for branching in (CHOICES, BEAMS) for step in range(8, 24)],
)
WINDOW = (GroupSpec("full", 1000), GroupSpec("window", 600, window=40))


class Lost(DoneFlight):
    def result(self) -> StepOutcome:
        raise MemoryError("no memory for activations")


class Choosy(SimExecutor):
    """Fails the steps that ``refuses`` names."""

    refuses: Callable[[StepPlan], bool] = staticmethod(lambda _: False)

    def launch(self, plan: StepPlan) -> DoneFlight:
        flight = super().launch(plan)
        return Lost(flight.result()) if self.refuses(plan) else flight


def choosy(refuses: Callable[[Engine, StepPlan], bool], **settings: Any) -> Engine:
    engine = make_engine(executor_class=Choosy, **settings)
    engine._executor.refuses = lambda plan: refuses(engine, plan)  # type: ignore[attr-defined]
    return engine


def rows_of(engine: Engine, plan: StepPlan, name: str) -> Iterator[int]:
    """Rows of a step that are a request's, or a choice's of it."""
    heap = engine.heap
    for row, slot in enumerate(plan.slots.tolist()):
        if heap.sequences[int(heap.holder[slot])].owner.split("#")[0] == name:
            yield row


def many(tokens: int = 12) -> list[Submit]:
    return [submit(f"r{at}", [at % 3] * (20 + at), max_tokens=tokens, ignore_eos=True) for at in range(MANY)]


def sound(load: list[Submit], **settings: Any) -> Results:
    return run(make_engine(**settings), load, check=False)


def assert_only(names: set[str], found: Results, expected: Results) -> None:
    """These ended with an error, and all others are as if nothing had been."""
    assert set(found.errors) == names
    for name, tokens in expected.tokens.items():
        if name in names:
            assert found.finish[name] == "error"
            assert found.tokens[name] == tokens[: len(found.tokens[name])]
        else:
            assert (found.tokens[name], found.finish[name]) == (tokens, expected.finish[name])


@DEPTHS
@pytest.mark.parametrize("first", [0, 25, 36])
@pytest.mark.parametrize("settings", [{}, {"enable_prefix_caching": False}, {"model": facts(WINDOW)}], ids=SETTINGS)
def test_who_cannot_be_computed_is_found_among_many(depth: int, first: int, settings: dict[str, Any]) -> None:
    """At the beginning of its prompt, inside of it, or when it has given tokens already."""
    settings = {"pages": 200, "max_num_seqs": MANY, "pipeline_depth": depth, **settings}

    def refuses(engine: Engine, plan: StepPlan) -> bool:
        return any(plan.starts[row] + plan.counts[row] > first for row in rows_of(engine, plan, "r9"))

    engine = choosy(refuses, **settings)
    found = run(engine, many())
    assert_only({"r9"}, found, sound(many(), pages=200, max_num_seqs=MANY))
    assert found.errors["r9"] == (
        "MemoryError: no memory for activations (a step fails for this request alone, others go on; a smaller "
        "--max-num-batched-tokens or --kv-cache-memory would leave more for it)"
    )
    assert engine.counters.failed_steps <= 8 + depth, "as many halves as 16 have, once more alone, and who came behind"
    assert engine.counters.refused["step"] == engine.counters.failed_steps
    assert 0 < engine.scheduler.trials.retried <= 4 * MANY
    assert not engine.scheduler.trials
    assert engine.heap.stats()[0].live == engine.heap.stats()[0].in_transit == 0


@DEPTHS
def test_several_that_cannot_be_computed_are_found_in_a_pool_that_is_short(depth: int) -> None:
    bad = {"r1", "r2", "r13"}

    def refuses(engine: Engine, plan: StepPlan) -> bool:
        return any(next(rows_of(engine, plan, name), None) is not None for name in bad)

    settings = {"pages": 14, "max_num_seqs": 6, "pipeline_depth": depth, "admission_policy": "page-each"}
    engine = choosy(refuses, **settings)
    found = run(engine, many(30))
    assert engine.scheduler.counters.preemptions > 0
    assert_only(bad, found, sound(many(30), pages=200, max_num_seqs=MANY))


@DEPTHS
def test_too_much_company_costs_time_alone(depth: int) -> None:
    """No request is at fault: steps of more than three of them fail."""
    engine = choosy(lambda _, plan: len(plan.slots) > 3, pages=200, max_num_seqs=MANY, pipeline_depth=depth)
    assert_only(set(), run(engine, many(), check=False), sound(many(), pages=200, max_num_seqs=MANY))
    assert engine.counters.failed_steps > 0


@DEPTHS
@pytest.mark.parametrize("first", [0, 22])
@pytest.mark.parametrize("branching", [{"n": 3}, {"n": 2, "use_beam_search": True}], ids=str)
def test_choices_and_beams_fail_as_they_belong_together(depth: int, first: int, branching: dict[str, Any]) -> None:
    """A search is one; choices are, until they were forked."""
    load = [submit(f"r{at}", [at] * (20 + at), max_tokens=8, ignore_eos=True, **branching) for at in range(4)]

    def refuses(engine: Engine, plan: StepPlan) -> bool:
        return any(plan.starts[row] + plan.counts[row] > first for row in rows_of(engine, plan, "r2"))

    found = run(choosy(refuses, pages=200, max_num_seqs=MANY, pipeline_depth=depth), load)
    names = {f"r2#{at}" for at in range(branching["n"])}
    expected = sound(load, pages=200, max_num_seqs=MANY)
    assert names <= expected.finish.keys()
    assert_only(names, found, expected)


@pytest.mark.parametrize(("branching", "failing"), FAILING, ids=str)
def test_any_step_may_fail_once(failing: int, branching: dict[str, Any]) -> None:
    """What the step bound for later ones is bound again: of the branches, three are before they have a row."""
    load = [submit(f"r{at}", [at] * 8, max_tokens=30, ignore_eos=True) for at in range(6)]
    load.append(submit("x", [9] * 10, max_tokens=8, ignore_eos=True, **branching))
    settings = {"pages": 60, "max_num_seqs": MANY, "max_num_batched_tokens": 8}

    class Forgetful(Choosy):
        def launch(self, plan: StepPlan) -> DoneFlight:
            kept = self._seeds.copy(), self._reported.copy()
            flight = super().launch(plan)
            if isinstance(flight, Lost):
                self._seeds, self._reported = kept
            return flight

    engine = make_engine(executor_class=Forgetful, pipeline_depth=2, **settings)
    engine._executor.refuses = lambda plan: plan.step == failing  # type: ignore[attr-defined]
    assert_only(set(), run(engine, load), sound(load, **settings))
    assert engine.counters.failed_steps == 1


class Gone(DoneFlight):
    def result(self) -> StepOutcome:
        raise StorageLost("a page could not be moved")


class Broken(SimExecutor):
    """Loses storage in its fourth step."""

    closed = False

    def launch(self, plan: StepPlan) -> DoneFlight:
        flight = super().launch(plan)
        return Gone(flight.result()) if plan.step == 3 else flight

    def close(self) -> None:
        self.closed = True
        super().close()


def test_moves_that_are_lost_end_the_engine() -> None:
    with pytest.raises(StorageLost, match="could not be moved"):
        run(make_engine(executor_class=Broken), many())


def test_an_engine_whose_last_step_ends_it_stops_its_executor() -> None:
    """What the disk tier has to write is written, and its threads end."""
    engine = make_engine(executor_class=Broken, pipeline_depth=2)
    engine.step([submit("a", [1, 2, 3], max_tokens=9, ignore_eos=True)])
    for _ in range(3):
        engine.step()
    assert isinstance(engine._executor, Broken)
    with pytest.raises(StorageLost, match="could not be moved"):
        engine.close()
    assert engine._executor.closed


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), True),
        (type("_ArrayMemoryError", (MemoryError,), {})("Unable to allocate 8 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError(), False),
    ],
)
def test_refusals_of_memory_are_told_from_other_failures(error: Exception, refused: bool) -> None:
    assert is_refusal(error) == refused


def test_counters_that_were_told_stay_as_they_were() -> None:
    """Of an engine in this process, they were its own lists."""
    engine = make_engine()
    before = snapshot(engine.scheduler, engine.counters, engine.pacer, engine.queue)
    kept = copy.deepcopy(before)
    run(engine, [submit(name, [1, 2, 3] * 30, max_tokens=60, ignore_eos=True) for name in "abc"])
    engine.heap.tree.generations.promoted[1] += 1
    assert before == kept
    assert snapshot(engine.scheduler, engine.counters, engine.pacer, engine.queue) != kept
