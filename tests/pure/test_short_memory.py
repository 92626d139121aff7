"""Where memory is short: garbage goes first, a refusal lasts no longer than its reason, and leaks do not kill."""

import logging

import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Submit
from infergc.engine.ports import Sink
from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from infergc.heap.provenance import Place, taken_by
from infergc.params import SamplingParams
from infergc.sched.plan import StepPlan
from samples.engines import Results, facts, make_engine, run, submit

SEARCH = {"use_beam_search": True, "n": 4, "temperature": 0, "max_tokens": 90}


def engine_of(depth: int, gc: str = "on") -> Engine:
    settings = {"max_num_seqs": 64, "pipeline_depth": depth, "max_num_batched_tokens": 512, "gc": gc}
    return make_engine(facts(max_len=2000), pages=60, **settings)


def text(length: int, factor: int = 1) -> list[int]:
    return [(factor * at + at // 50) % 50 for at in range(length)]


def drain(engine: Engine, results: Results, steps: int = 600) -> None:
    for _ in range(steps):
        if not engine.has_work():
            return
        results.take(engine.step().news())
    raise AssertionError(f"somebody waits for ever: {len(engine.scheduler.waiting)}")


@pytest.mark.parametrize("gc", ["on", "off"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("steps", [40, 41, 42, 43])
def test_who_needs_what_a_cancelled_search_held_gets_it(steps: int, depth: int, gc: str) -> None:
    """The search leaves a cycle, and the newcomer is refused before any collector looked at it."""
    engine, results = engine_of(depth, gc), Results()
    engine.step([submit("search", text(300), **SEARCH)])
    for _ in range(steps):
        engine.step()
    results.take(engine.step([Abort("search"), submit("large", text(800, 7), max_tokens=8)]).news())
    drain(engine, results)
    assert results.finish["large"] == "length"
    assert engine.heap.counters.cycles == 1


@pytest.mark.parametrize("depth", [1, 2])
def test_it_does_not_wait_for_who_runs_beside(depth: int) -> None:
    engine, results = engine_of(depth), Results()
    engine.step([submit("search", text(300), **SEARCH), submit("beside", text(20, 3), max_tokens=400, ignore_eos=True)])
    for _ in range(41):
        engine.step()
    results.take(engine.step([Abort("search"), submit("large", text(700, 7), max_tokens=8)]).news())
    for _ in range(30):
        results.take(engine.step().news())
    assert results.finish.get("large") == "length"
    assert "beside" not in results.finish


def test_a_refusal_ends_when_somebody_makes_room_between_two_plans() -> None:
    """Here verification does: neither a request that ends nor the collector."""
    engine, results = engine_of(1), Results()
    leak_pages(engine, 30)
    engine.step([submit("beside", text(20, 3), max_tokens=400, ignore_eos=True)])
    results.take(engine.step([submit("large", text(700, 7), max_tokens=8)]).news())
    assert len(engine.scheduler.waiting) == 1
    engine.pacer.verify()
    for _ in range(30):
        results.take(engine.step().news())
    assert results.finish.get("large") == "length"


def test_garbage_goes_before_sessions() -> None:
    engine, results = engine_of(2), Results()
    for name in "abc":
        params = SamplingParams(seed=1, max_tokens=4)
        run(engine, [Submit(name, text(60, ord(name)), params, session=name)], check=False)
    engine.step([submit("search", text(300), **SEARCH)])
    for _ in range(40):
        engine.step()
    results.take(engine.step([Abort("search"), submit("large", text(600, 7), max_tokens=8)]).news())
    drain(engine, results)
    assert results.finish["large"] == "length"
    assert len(engine.scheduler.sessions) == 3


def leak_pages(engine: Engine, pages: int) -> None:
    """Take references for which no object stands."""
    heap = engine.heap
    sequence = heap.open("careless", TokenLog([0] * 16 * pages), Namespace("n"))
    assert sequence is not None
    assert heap.reserve([(sequence, 16 * pages)])
    heap.groups[0].retain(heap.extents(sequence, 0), taken_by(sequence.id, Place.SHARE))
    heap.close(sequence)


def test_leaked_pages_are_reclaimed_before_a_request_is_refused_what_is_its_due(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = engine_of(1)
    leak_pages(engine, 20)
    with caplog.at_level(logging.WARNING):
        results = run(engine, [submit("large", text(800, 7), max_tokens=8)], check=False)
    assert results.finish == {"large": "length"}
    assert "leaked; last taken by careless in share" in caplog.text
    engine.heap.check()


@pytest.mark.parametrize("settings", [{"enable_prefix_caching": False}, {}], ids=["no cache", "short texts"])
def test_leaks_are_found_where_nothing_is_ever_cached(settings: dict[str, bool]) -> None:
    engine = make_engine(pages=40, **settings)
    leak_pages(engine, 3)
    for number in range(4):
        run(engine, [submit(f"r{number}", [1, 2, 3], max_tokens=4)], check=False)
        while engine.idle():
            pass
    assert engine.heap.counters.sealed == 0
    assert engine.pacer.collector.counters.leaks == 3
    assert engine.heap.groups[0].grantable == 40


def test_neighbours_that_two_requests_leaked_are_told_apart() -> None:
    engine = make_engine(pages=40)
    heap = engine.heap
    for name in ("one", "two"):
        sequence = heap.open(name, TokenLog([0] * 16), Namespace("n"))
        assert sequence is not None
        assert heap.reserve([(sequence, 16)])
        heap.groups[0].retain(heap.extents(sequence, 0), taken_by(sequence.id, Place.SHARE))
        heap.close(sequence)
    found = engine.pacer.verify()
    assert [leak.owner for leak in found.leaks] == ["one", "two"]


class Plans(Sink):
    """Keeps the steps."""

    def __init__(self) -> None:
        self.steps: list[StepPlan] = []

    def planned(self, plan: StepPlan) -> None:
        self.steps.append(plan)


def test_who_was_let_in_before_pages_were_found_lost_is_bound_to_its_slot(caplog: pytest.LogCaptureFixture) -> None:
    """What is planned anew, once lost pages were found, has who was let in before; and nobody was let in twice."""
    plans, results = Plans(), Results()
    engine = make_engine(facts(max_len=500), pages=14, sinks=[plans], max_num_seqs=8, max_num_batched_tokens=512)
    run(engine, [submit("old", text(70, 3), max_tokens=1)])
    pages = engine.heap.groups[0]
    pages.count[pages.sealed] += 1
    plans.steps.clear()
    engine.step([submit("r0", text(120), max_tokens=4), submit("r1", text(70, 7), max_tokens=4)])
    assert "the heap was mended" in caplog.text, "nothing was lost here: nothing is shown"
    (plan,) = plans.steps
    assert [each.slot for each in plan.bindings] == plan.slots.tolist()
    assert len(plan.slots) == len(engine.heap.sequences) == 2
    drain(engine, results)
    assert not engine.heap.sequences
