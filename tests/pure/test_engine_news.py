"""What a step tells of its requests, and what the scheduler leaves undone while nothing has changed."""

import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Delta, Outputs
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim.executor import DoneFlight, SimExecutor
from samples.engines import Results, facts, make_engine, run, submit


def step_until(engine: Engine, *requests: object) -> list[Outputs]:
    """Every step's outputs until the engine rests."""
    told = [engine.step(requests)]
    while engine.has_work():
        told.append(engine.step())
    return told


def test_requests_that_merely_go_on_are_told_as_columns() -> None:
    told = step_until(make_engine(), *(submit(name, [1] * 20, max_tokens=6, ignore_eos=True) for name in "ab"))
    first, *between, last = told
    assert [delta.request_id for delta in first.deltas] == ["a", "b"], "the first token comes with what was cached"
    assert all((outputs.deltas, outputs.ids) == ([], ["a", "b"]) for outputs in between)
    assert [delta.finish for delta in last.deltas] == ["length", "length"]
    assert not first.ids
    assert not last.ids


def test_news_gives_columns_and_deltas_alike() -> None:
    outputs = Outputs([Delta("a", [1], "stop")], ["b", "c"], [2, 3])
    assert outputs.news() == [Delta("a", [1], "stop"), Delta("b", [2]), Delta("c", [3])]


def test_cached_tokens_are_told_with_the_first_token_and_the_last() -> None:
    engine = make_engine()
    run(engine, [submit("one", [1] * 40, max_tokens=2)])
    told = [delta for outputs in step_until(engine, submit("two", [1] * 40, max_tokens=4)) for delta in outputs.deltas]
    assert [(delta.request_id, delta.cached_tokens, delta.finish) for delta in told] == [
        ("two", 32, ""),
        ("two", 32, "length"),
    ]


def test_long_texts_run_beside_each_other_as_alone() -> None:
    """Rows of known tokens lie side by side, each as wide as the longest text."""
    load = [submit(f"r{at}", [at] * (1000 + at), max_tokens=1100, ignore_eos=True) for at in range(3)]
    model = facts(max_len=4096)
    together = run(make_engine(model, pages=600, max_num_batched_tokens=512), list(load), check=False)
    for request in load:
        alone = run(make_engine(model, pages=200, max_num_batched_tokens=512), [request], check=False)
        assert together.tokens[request.request_id] == alone.tokens[request.request_id]


@pytest.mark.parametrize("failing", range(4, 40, 3))
def test_a_step_may_fail_while_others_were_preempted(failing: int) -> None:
    """At depth 2 a failed step may have computed for a request that waits again: it ends too, and only once."""

    class Faulty(SimExecutor):
        def launch(self, plan: StepPlan) -> DoneFlight:
            flight = super().launch(plan)
            return Broken(flight.result()) if plan.step == failing else flight

    class Broken(DoneFlight):
        def result(self) -> StepOutcome:
            raise MemoryError

    load = [submit(f"r{at}", [at] * 60, max_tokens=100, ignore_eos=True) for at in range(6)]
    expected = run(make_engine(pages=200), list(load), check=False)
    found = run(make_engine(executor_class=Faulty, pages=20, pipeline_depth=2), list(load))
    assert set(found.finish.values()) <= {"length", "error"}
    assert found.finish.keys() == expected.finish.keys()
    for name, tokens in found.tokens.items():
        whole = expected.tokens[name]
        assert tokens == (whole if found.finish[name] == "length" else whole[: len(tokens)])


def test_a_head_that_memory_refused_is_tried_again_only_when_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    share = Heap.share_prefix

    def counted(heap: Heap, sequence: object, *rest: object, **named: object) -> int:
        tried.append(sequence.owner)
        return share(heap, sequence, *rest, **named)

    monkeypatch.setattr(Heap, "share_prefix", counted)
    engine = make_engine(pages=12)
    told = step_until(
        engine,
        submit("runs", [1] * 60, max_tokens=60, ignore_eos=True),
        submit("waits", [2] * 100, max_tokens=5, ignore_eos=True),
    )
    assert len(told) >= 60
    assert tried.count("runs") == 1
    assert tried.count("waits") <= 4, "while a prompt was computed, and once the other had left"


@pytest.mark.parametrize("depth", [1, 2])
def test_a_prompt_is_shared_as_soon_as_it_is_computed_and_an_output_once_it_ends(depth: int) -> None:
    engine = make_engine(pipeline_depth=depth)
    results = Results()
    results.take(engine.step([submit("long", list(range(48)), max_tokens=40, ignore_eos=True)]).news())
    while len(results.tokens.get("long", [])) < 38:
        results.take(engine.step().news())
    assert engine.heap.counters.sealed == 3
    while engine.has_work():
        results.take(engine.step().news())
    assert engine.heap.counters.sealed == (48 + 39) // 16
    again = submit("again", [*range(48), *results.tokens["long"]], max_tokens=1)
    assert run(engine, [again]).cached["again"] == 80


def test_what_slides_out_of_a_window_is_shared_before() -> None:
    window = (GroupSpec("full", 1000), GroupSpec("window", 600, window=32))
    engine = make_engine(facts(window))
    engine.step([submit("long", list(range(16)), max_tokens=80, ignore_eos=True)])
    for _ in range(60):
        engine.step()
    assert engine.has_work()
    assert engine.heap.counters.sealed >= 4
    engine.heap.check()


@pytest.mark.parametrize("prompt", [[1, 2**63], [1, -1], [2**64 - 1]])
def test_token_ids_beyond_the_vocabulary_are_refused_however_large(prompt: list[int]) -> None:
    (delta,) = make_engine().step([submit("x", prompt)]).deltas
    assert (delta.finish, delta.error) == ("error", "prompt: token ids must be 0 to 49")
