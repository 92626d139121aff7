"""Choices and beams in the engine under the simulated executor: forks, gates, small pools, aborts, faults."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Command, Submit, choice_names
from infergc.engine.ports import Sink
from infergc.engine.record import Recorder, replay
from infergc.heap.groups import GroupSpec, pages_for, window_pages
from infergc.sched.branches import branch_seed
from infergc.sched.plan import FROM_DEVICE, StepOutcome, StepPlan
from infergc.sched.search import Hypothesis
from infergc.sim.executor import DoneFlight, SimExecutor
from samples.engines import VOCAB, Results, facts, make_engine, run, submit

FULL = (GroupSpec("full", 1000),)
MIXED = (GroupSpec("full", 1000), GroupSpec("window", 600, window=40))
P = 16


class PlanLog(Sink):
    def __init__(self) -> None:
        self.plans: list[StepPlan] = []

    def planned(self, plan: StepPlan) -> None:
        self.plans.append(plan)


def beams(name: str, prompt: list[int], width: int = 4, **params: Any) -> Submit:
    defaults = {"n": width, "use_beam_search": True, "max_tokens": 30}
    return submit(name, prompt, **{**defaults, **params})


def at_rest(engine: Engine) -> None:
    engine.heap.check()
    for group in engine.heap.stats():
        assert group.live == group.in_transit == 0
        assert group.free + group.cached == group.capacity
    assert engine.scheduler.waiting.first() is engine.scheduler.running.first() is None


# ---- choices


def choices_load() -> list[Submit]:
    rng = np.random.default_rng(3)
    base = rng.integers(0, VOCAB, 70).tolist()
    lengths = [1, 15, 16, 17, 31, 32, 33, 64, 70]
    return [
        submit(f"r{at}", [at, *base[: length - 1]], n=1 + at % 5, max_tokens=int(rng.integers(1, 50)), seed=7 * at)
        for at, length in enumerate(lengths)
    ]


@cache
def separately() -> Results:
    """Every choice of the load as a request of its own, alone in a roomy engine."""
    results = Results()
    for one in choices_load():
        for index, name in enumerate(choice_names(one.request_id, one.params.n)):
            seed = branch_seed(one.params.seed, index)
            alone = submit(name, one.prompt, max_tokens=one.params.max_tokens, seed=seed)
            results.take_all(run(make_engine(facts(eos=(3,)), pages=200), [alone], check=False))
    return results


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("pages", [24, 200])
@pytest.mark.parametrize("groups", [FULL, MIXED], ids=["full", "mixed"])
def test_choices_are_what_separate_requests_give(groups: Any, pages: int, depth: int, caching: bool) -> None:
    load = choices_load()
    engine = make_engine(
        facts(groups, eos=(3,), max_len=256), pages=pages, pipeline_depth=depth, enable_prefix_caching=caching,
        max_num_batched_tokens=32,
    )  # fmt: skip
    results, expected = run(engine, list(load)), separately()
    assert results.tokens == expected.tokens
    assert results.finish == expected.finish
    assert engine.scheduler.counters.prompt_tokens == sum(len(one.prompt) for one in load)
    assert engine.scheduler.counters.generation_tokens == sum(map(len, results.tokens.values()))
    at_rest(engine)


def test_the_seeds_of_choices_differ() -> None:
    seeds = [branch_seed(seed, index) for seed in (0, 1, 2**63 - 1) for index in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert branch_seed(5, 0) == 5


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("length", [30, 32, 33, 1])
def test_a_fork_costs_the_table_and_not_the_tokens(length: int, depth: int) -> None:
    log = PlanLog()
    engine = make_engine(sinks=[log], pipeline_depth=depth, enable_prefix_caching=False)
    request = submit("r", list(range(length)), n=4, max_tokens=8, ignore_eos=True)
    results = Results()
    results.take(engine.step([request]).news())
    while "r#3" not in results.tokens:
        results.take(engine.step().news())
        engine.heap.check()
    held = engine.heap.stats()[0].live + engine.heap.stats()[0].in_transit
    assert held <= pages_for(length, P) + 4 * 2
    computed = sum(int(np.clip(length - plan.starts, 0, plan.counts).sum()) for plan in log.plans)
    assert computed == length + 3, "each branch computes the prompt's last token, and no other of it"
    results.take_all(run(engine, []))
    at_rest(engine)


def test_branches_without_a_slot_wait_and_find_the_prompt() -> None:
    engine = make_engine(max_num_seqs=4)
    long = submit("long", [1] * 5, max_tokens=60, ignore_eos=True)
    results = run(engine, [long, submit("r", list(range(40)), n=4, max_tokens=9, ignore_eos=True)])
    assert all(len(results.tokens[f"r#{index}"]) == 9 for index in range(4))
    assert engine.scheduler.counters.prompt_tokens == 45
    assert engine.scheduler.counters.prefix_hits == 0, "a branch is no hit"


def test_cached_tokens_are_those_of_the_request() -> None:
    engine = make_engine()
    run(engine, [submit("one", [1] * 40, max_tokens=2)])
    results = run(engine, [submit("two", [1] * 40, n=3, max_tokens=4)])
    assert set(results.cached.values()) == {32}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("gone", ["r#0", "r#2", "r"])
@pytest.mark.parametrize("after", range(8))
def test_choices_may_be_aborted_alone_or_together(after: int, gone: str, depth: int) -> None:
    engine = make_engine(pipeline_depth=depth, max_num_batched_tokens=16)
    request = submit("r", list(range(40)), n=4, max_tokens=20, ignore_eos=True)
    results = Results()
    results.take(engine.step([request]).news())
    for _ in range(after):
        results.take(engine.step().news())
    results.take(engine.step([Abort(gone), Abort(gone), Abort("r#9")]).news())
    rest = run(engine, [])
    for name, tokens in rest.tokens.items():
        results.tokens.setdefault(name, []).extend(tokens)
    results.finish |= rest.finish
    ended = {name for name, reason in results.finish.items() if reason == "abort"}
    assert ended == (set(choice_names("r", 4)) if gone == "r" else {gone})
    assert len(results.finish) == 4
    assert all(len(results.tokens[name]) == 20 for name in set(results.finish) - ended)
    at_rest(engine)


def test_names_in_use_are_refused() -> None:
    engine = make_engine()
    engine.step([submit("r", [1] * 20, n=2, max_tokens=50, ignore_eos=True)])
    outputs = engine.step([submit("r", [1], max_tokens=1), submit("r#1", [1]), submit("r", [1], n=2)])
    refused = [delta for delta in outputs.news() if delta.finish == "error"]
    assert [delta.request_id for delta in refused] == ["r", "r#1", "r#0", "r#1"]


# ---- beams


def count_preemptions(engine: Engine) -> list[Hypothesis]:
    """Lists the hypotheses that will have to give way."""
    preempted: list[Hypothesis] = []
    preempt = engine.scheduler._preempt

    def noted(victim: Any) -> None:
        if isinstance(victim, Hypothesis):
            preempted.append(victim)
        preempt(victim)

    engine.scheduler._preempt = noted
    return preempted


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("groups", [FULL, MIXED], ids=["full", "mixed"])
def test_memory_and_depth_do_not_change_what_a_search_finds(groups: Any, width: int, depth: int, caching: bool) -> None:
    asked = {"max_tokens": 40, "min_tokens": 25}
    load = [submit(f"o{at}", [at] * 40, max_tokens=90, ignore_eos=True) for at in range(2)] + [
        beams(f"b{length}", [(i * length) % VOCAB for i in range(length)], width, **asked, **rule)
        for length, rule in (
            (1, {}),
            (16, {"early_stopping": True, "length_penalty": 0.0}),
            (37, {"early_stopping": "never", "length_penalty": 2.0}),
            (48, {"length_penalty": -1.0}),
        )
    ]
    model = facts(groups, eos=(3, 11), max_len=200)
    roomy = run(make_engine(model, pages=400, max_num_seqs=20), list(load), check=False)
    engine = make_engine(
        model, pages=26, pipeline_depth=depth, enable_prefix_caching=caching, max_num_batched_tokens=32, max_num_seqs=20
    )
    preempted = count_preemptions(engine)
    tight = run(engine, list(load))
    assert not roomy.errors
    assert tight.tokens == roomy.tokens
    assert tight.finish == roomy.finish
    assert len(roomy.tokens) == 4 * width + 2
    at_rest(engine)
    if width == 5:
        assert preempted, "only others gave way"


def hypotheses(engine: Engine) -> list[Hypothesis]:
    return [request for request in engine.scheduler.running if isinstance(request, Hypothesis)]


def pages_of(engine: Engine, one: Hypothesis) -> set[int]:
    row = engine.heap.tables[0].row(one.held.slot)
    return {page for first, count in row for page in range(first, first + count)}


def distinct_prefixes(engine: Engine, members: list[Hypothesis]) -> set[tuple[int, ...]]:
    """Every text up to the end of a page, or of what is granted, among these hypotheses."""
    prefixes: set[tuple[int, ...]] = set()
    for one in members:
        text = one.tokens.view()[: int(engine.heap.length[one.held.slot])].tolist()
        prefixes |= {tuple(text[: start + P]) for start in range(0, len(text), P)}
    return prefixes


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("length", [5, 16, 40])
def test_a_search_holds_the_distinct_pages_of_its_hypotheses_and_a_copy_each(
    length: int, tight: bool, depth: int, caching: bool
) -> None:
    """Also when hypotheses had to give way to requests that came before, and start again."""
    engine = make_engine(
        facts(max_len=400), pages=45 if tight else 200, pipeline_depth=depth, enable_prefix_caching=caching
    )
    if tight:
        engine.step([submit(f"o{at}", [at] * 50, max_tokens=110, ignore_eos=True) for at in range(4)])
    engine.step([beams("b", list(range(length)), width=4, max_tokens=120)])
    preempted, shared = count_preemptions(engine), 0
    while members := hypotheses(engine) or engine.scheduler.waiting or engine.scheduler._flights:
        engine.step()
        engine.heap.check()
        members = hypotheses(engine)
        held = set().union(*(pages_of(engine, one) for one in members))
        assert len(held) <= len(distinct_prefixes(engine, members)) + 4
        shared += sum(len(pages_of(engine, one)) for one in members) - len(held)
    assert shared > 100, "hypotheses that share nothing would prove nothing"
    assert bool(preempted) == tight
    run(engine, [])
    at_rest(engine)


@pytest.mark.parametrize("depth", [1, 2])
def test_hypotheses_go_one_token_ahead_of_their_group(depth: int) -> None:
    log = PlanLog()
    engine = make_engine(sinks=[log], pipeline_depth=depth, enable_prefix_caching=False)
    engine.step([beams("b", [1] * 20, width=3, max_tokens=12)])
    while engine.has_work():
        engine.step()
    assert all((plan.token_ids != FROM_DEVICE).all() for plan in log.plans)
    assert [plan.tokens for plan in log.plans] == [20] + 11 * [3]
    assert [len(plan.bindings) for plan in log.plans][:2] == [1, 2]


def test_losers_give_their_pages_back_in_the_commit_in_which_they_lose() -> None:
    engine = make_engine(facts(max_len=400), pages=100)
    engine.step([beams("b", list(range(40)), width=4, max_tokens=100)])
    while engine.has_work():
        engine.step()
        members = hypotheses(engine)
        assert len(engine.heap.sequences) == len(members) <= 4
        assert not members or engine.heap.counters.sealed == 40 // P, "what lost is free, not cached"


@pytest.mark.parametrize("depth", [1, 2])
def test_groups_that_hold_each_others_slots_give_way(depth: int) -> None:
    """Four slots for two searches of four: at some time both wait for slots that the other's hypotheses stand in."""
    load = [beams(name, [number] * 20, 4, max_tokens=25) for number, name in enumerate("ab")]
    engine = make_engine(max_num_seqs=4, pipeline_depth=depth)
    preempted = count_preemptions(engine)
    assert run(engine, list(load), most=500).tokens == run(make_engine(), list(load)).tokens
    assert all(one.stands for one in preempted)
    assert preempted


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("after", range(0, 24, 3))
def test_a_search_may_be_aborted_at_any_time(after: int, depth: int) -> None:
    engine = make_engine(pipeline_depth=depth, max_num_batched_tokens=16)
    results = Results()
    results.take(engine.step([beams("b", list(range(40)), width=3, max_tokens=40)]).news())
    for _ in range(after):
        results.take(engine.step().news())
    results.take(engine.step([Abort("b#1"), Abort("b")]).news())
    results.take_all(run(engine, []))
    assert results.finish == dict.fromkeys(("b#0", "b#1", "b#2"), "abort")
    at_rest(engine)


def test_a_search_tells_its_best_texts_once_and_whole() -> None:
    engine = make_engine()
    told = []
    outputs = engine.step([beams("b", [4] * 10, width=5, n=2, max_tokens=7)])
    while engine.has_work():
        outputs = engine.step()
        told += outputs.news()
    assert [delta.request_id for delta in told] == ["b#0", "b#1"]
    assert [len(delta.tokens) for delta in told] == [7, 7]
    assert told[0].cumulative_logprob > told[1].cumulative_logprob
    assert engine.scheduler.counters.generation_tokens == 14
    assert engine.scheduler.counters.prompt_tokens == 10
    assert outputs.stats["counters"]["finished_length"] == 2


@pytest.mark.parametrize("params", [{"max_tokens": 1}, {"max_tokens": 2}, {"n": 1, "beam_width": 8}])
def test_short_and_wide_searches(params: dict[str, Any]) -> None:
    engine = make_engine(facts(eos=(3,)))
    results = run(engine, [beams("b", [5] * 33, **params)])
    assert all(results.tokens.values())
    at_rest(engine)


# ---- limits


@pytest.mark.parametrize(
    ("request_params", "message"),
    [
        ({"n": 9}, "n: 9 is too many; this engine runs at most 8 sequences at a time"),
        ({"n": 9, "use_beam_search": True}, "n: 9 is too many"),
        ({"beam_width": 9, "use_beam_search": True}, "beam_width: 9 is too wide; this engine runs at most 8"),
        (
            {"beam_width": 8, "use_beam_search": True, "stop_token_ids": tuple(range(6))},
            "beam_width: 8 is too wide; a step looks at 7 tokens for each hypothesis and at most at 50 in all, so 7 is",
        ),
        (
            {"beam_width": 4, "use_beam_search": True, "max_tokens": 300},
            "max_tokens: 300 tokens of 4 hypotheses may take 4 x 20 pages of KV beside the prompt's 2, and there",
        ),
        (
            {"beam_width": 4, "use_beam_search": True, "max_tokens": None},
            "max_tokens: 482 tokens of 4 hypotheses may take 4 x 32 pages",
        ),
    ],
)
def test_what_cannot_run_is_refused(request_params: dict[str, Any], message: str) -> None:
    engine = make_engine()
    outputs = engine.step([submit("r", [1] * 30, **request_params)])
    assert all(delta.finish == "error" for delta in outputs.deltas)
    assert outputs.deltas[0].error.startswith(message)
    assert not engine.has_work()


def test_a_search_that_does_not_fit_is_told_what_would() -> None:
    (delta,) = make_engine().step([beams("r", [1] * 30, n=1, beam_width=4, max_tokens=300)]).deltas
    assert delta.error.endswith("; 224 tokens or a beam_width of 3 would fit")
    for fitting in ({"max_tokens": 224}, {"beam_width": 3}):
        assert (
            not make_engine()
            .step([beams("r", [1] * 30, **{"n": 1, "beam_width": 4, "max_tokens": 300, **fitting})])
            .deltas
        )


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 40])
def test_a_search_that_is_taken_fits_alone(length: int, caching: bool, depth: int) -> None:
    """A pool of just as many pages as the worst case asks for."""
    output, width = 40, 4
    pages = pages_for(length, P) + width * (pages_for(output, P) + 1)
    roomy = run(make_engine(pages=200), [beams("b", [7] * length, width, max_tokens=output)], check=False)
    engine = make_engine(pages=pages, pipeline_depth=depth, enable_prefix_caching=caching)
    assert run(engine, [beams("b", [7] * length, width, max_tokens=output)]).tokens == roomy.tokens
    assert engine.scheduler.counters.preemptions == 0
    refused = make_engine(pages=pages - 1).step([beams("b", [7] * length, width, max_tokens=output)])
    assert refused.deltas[0].error.startswith("max_tokens: 40 tokens of 4 hypotheses")


# ---- everything at once


class Unsound(SimExecutor):
    """Fails now and then: when a step is launched, or when it is to be done."""

    def launch(self, plan: StepPlan) -> DoneFlight:
        flight = super().launch(plan)
        if plan.step % 31 == 7 and len(plan.slots):  # moves by themselves are made
            raise RuntimeError("cannot start")
        return Lost(flight.result()) if plan.step % 37 == 11 else flight


class Lost(DoneFlight):
    def result(self) -> StepOutcome:
        raise RuntimeError("lost")


CHUNK = 32
WINDOW = GroupSpec("window", 600, window=40)
SHAPES = {
    "full": (FULL, 16),
    "window": ((WINDOW,), max(16, window_pages(WINDOW, P, CHUNK))),
    "mixed": (MIXED, max(16, window_pages(WINDOW, P, CHUNK))),
}


def random_request(rng: np.random.Generator, number: int) -> Submit:
    length = int(rng.integers(1, 60))
    prompt = [(i * 7) % VOCAB for i in range(length)]
    kind = rng.integers(3)
    most = int(rng.integers(1, 30))
    if kind == 0:
        return submit(f"r{number}", prompt, max_tokens=most)
    if kind == 1:
        return submit(f"r{number}", prompt, max_tokens=most, n=int(rng.integers(2, 5)))
    width = int(rng.integers(2, 5))
    early = (True, False, "never")[rng.integers(3)]
    return beams(f"r{number}", prompt, width, n=int(rng.integers(1, width + 1)), beam_width=width, max_tokens=most,
                 early_stopping=early)  # fmt: skip


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("executor_class", [SimExecutor, Unsound])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_random_loads_always_come_to_rest(shape: str, depth: int, executor_class: Any, caching: bool) -> None:
    rng = np.random.default_rng(depth)
    groups, pages = SHAPES[shape]
    engine = make_engine(
        facts(groups, eos=(3,), max_len=200), pages=pages, pipeline_depth=depth, max_num_batched_tokens=CHUNK,
        max_num_seqs=4, executor_class=executor_class, enable_prefix_caching=caching,
    )  # fmt: skip
    results, names, open_names, steps = Results(), [], set(), 0
    while engine.has_work() or len(names) < 40:
        commands: list[Command] = []
        if len(names) < 40 and rng.random() < 0.2:
            commands.append(random_request(rng, len(names)))
            names.append(commands[-1].request_id)
            open_names |= set(choice_names(names[-1], commands[-1].params.n))
        if names and rng.random() < 0.04:
            name = str(rng.choice(names))
            commands.append(Abort(name if rng.random() < 0.5 else f"{name}#{rng.integers(3)}"))
        results.take(engine.step(commands).news())
        engine.heap.check()
        steps += 1
        assert steps < 20000, f"still at work: {engine.heap.stats()}"
    assert set(results.finish) == open_names
    assert "error" not in results.finish.values() or executor_class is Unsound
    assert bool(engine.counters.failed_steps) == (executor_class is Unsound)
    assert not list(engine._intake)
    at_rest(engine)


def test_a_replay_of_a_search_gives_the_same_events() -> None:
    load = [beams("b", [1] * 20, 3), submit("r", [2] * 30, n=3, max_tokens=9)]
    first, second = Recorder(), Recorder()
    run(make_engine(sinks=[first], pages=24, pipeline_depth=2), list(load), check=False)
    replay(first, make_engine(sinks=[second], pages=24, pipeline_depth=2, record=first.outcomes))
    assert first.events == second.events
