"""Random loads on the smallest pools: the engine always comes to rest, with the laws kept and nothing held."""

from dataclasses import replace

import numpy as np
import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Ask, Command, Submit, choice_names
from infergc.heap.groups import GroupSpec, window_pages
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim.executor import DoneFlight, SimExecutor
from samples.engines import VOCAB, Results, facts, make_engine, run, submit

CHUNK = 32
WINDOW = GroupSpec("window", 600, window=40)
SHAPES = {
    "full": ((GroupSpec("full", 1000),), 8),
    "window": ((WINDOW,), window_pages(WINDOW, 16, CHUNK)),
    "mixed": ((GroupSpec("full", 1000), WINDOW), window_pages(WINDOW, 16, CHUNK)),
}
MOST_STEPS = 5000


def engine_of(shape: str, depth: int, executor_class: type[SimExecutor] = SimExecutor) -> Engine:
    groups, pages = SHAPES[shape]
    return make_engine(
        facts(groups, eos=(3,), max_len=400),
        pages=pages,
        pipeline_depth=depth,
        max_num_batched_tokens=CHUNK,
        max_num_seqs=4,
        executor_class=executor_class,
    )


def random_request(rng: np.random.Generator, number: int, longest: int) -> Submit:
    """Texts up to all that memory holds, which share prefixes and part ways inside a page."""
    base = [(i * 7) % VOCAB for i in range(longest)]
    length = longest - 1 if rng.random() < 0.3 else int(rng.integers(1, longest))
    shared = int(rng.integers(0, length + 1))
    prompt = base[:shared] + rng.integers(0, VOCAB, length - shared).tolist()
    salt = "ab"[int(rng.integers(2))]
    return submit(f"r{number}", prompt, max_tokens=int(rng.integers(1, 60)), ignore_eos=rng.random() < 0.5, salt=salt)


class Unsound(SimExecutor):
    """Fails now and then, when a step is launched or is to be done; never twice while a text is computed again."""

    def launch(self, plan: StepPlan) -> DoneFlight:
        flight = super().launch(plan)
        if plan.step % 74 == 20 and len(plan.slots):
            raise RuntimeError("cannot start")
        return Lost(flight.result()) if plan.step % 111 == 0 else flight


class Lost(DoneFlight):
    def result(self) -> StepOutcome:
        raise RuntimeError("lost")


@pytest.mark.parametrize("executor_class", [SimExecutor, Unsound])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_engine_always_comes_to_rest(shape, depth, executor_class):
    rng = np.random.default_rng(depth)
    engine = engine_of(shape, depth, executor_class)
    results = Results()
    names: list[str] = []
    steps = 0
    while engine.has_work() or len(names) < 40:
        commands: list[Submit | Abort] = []
        if len(names) < 40 and rng.random() < 0.2:
            names.append(f"r{len(names)}")
            commands.append(random_request(rng, len(names) - 1, engine.ready.max_model_len))
        if names and rng.random() < 0.03:
            commands.append(Abort(str(rng.choice(names))))
        results.take(engine.step(commands).news())
        engine.heap.check()
        steps += 1
        assert steps < MOST_STEPS, f"still at work: {engine.heap.stats()}"
    assert set(results.finish) == set(names)
    assert all(group.live == group.in_transit == 0 for group in engine.heap.stats())
    assert "error" not in results.finish.values()
    assert bool(engine.scheduler.trials.retried) == (executor_class is Unsound)


def random_turn(rng: np.random.Generator, number: int, longest: int) -> Submit:
    """A request as above, of one of a few sessions, and now and then for several texts."""
    one = random_request(rng, number, longest)
    one.session = f"s{rng.integers(3)}"
    shape = rng.random()
    if shape < 0.2:
        one.params = replace(one.params, n=int(rng.integers(2, 4)))
    elif shape < 0.4:
        one.prompt = one.prompt[: max(1, longest // 3)]
        one.params = replace(one.params, n=2, use_beam_search=True, max_tokens=5)
    return one


def random_end(rng: np.random.Generator, names: list[str]) -> list[Command]:
    """Somebody hangs up or finds a stop string, a session is deleted, or is idle if it is."""
    commands: list[Command] = []
    if names and rng.random() < 0.05:
        commands.append(Abort(str(rng.choice(names)), stopped=rng.random() < 0.5))
    if rng.random() < 0.1:
        reason = ("asked", "idle")[int(rng.integers(2))]
        about = {"salt": "ab"[int(rng.integers(2))], "session": f"s{rng.integers(3)}", "reason": reason}
        commands.append(Ask(1, "close_session", about))
    return commands


@pytest.mark.parametrize("executor_class", [SimExecutor, Unsound])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_sessions_come_to_rest_too(shape: str, depth: int, executor_class: type[SimExecutor]) -> None:
    """Whatever they keep, and whenever they are closed, every request comes to its end, and nothing is left."""
    rng = np.random.default_rng(depth)
    engine = engine_of(shape, depth, executor_class)
    results = Results()
    names: list[str] = []
    steps = asked = 0
    while engine.has_work() or asked < 24:
        commands = random_end(rng, names)
        if asked < 24 and rng.random() < 0.2:
            one = random_turn(rng, asked, engine.ready.max_model_len)
            commands.append(one)
            names += choice_names(one.request_id, one.params.n)
            asked += 1
        results.take(engine.step(commands).news())
        if steps % 3 == 0:
            engine.heap.check()
        steps += 1
        assert steps < MOST_STEPS, f"still at work: {engine.heap.stats()}"
    assert set(results.finish) == set(names)
    for salt in "ab":
        for session in ("s0", "s1", "s2"):
            engine.step([Ask(1, "close_session", {"salt": salt, "session": session, "reason": "idle"})])
    assert engine.step([Ask(2, "verify")]).answers[0].value == ""
    assert not engine.heap.graph.objects
    assert all(group.live == group.in_transit == 0 for group in engine.heap.stats())
    assert not [error for error in results.errors.values() if error.startswith("RuntimeError")]  # some were refused
    assert bool(engine.scheduler.trials.retried) == (executor_class is Unsound)


def test_a_text_that_fills_memory_is_admitted_beside_a_page_it_shares_in_part():
    """The page that matches in part and its copy would be one page more than there is."""
    engine = make_engine(pages=4)
    run(engine, [submit("a", list(range(40)), max_tokens=1)])
    results = run(engine, [submit("b", list(range(24)) + [49] * 38, max_tokens=2, ignore_eos=True)], most=50)
    assert results.finish == {"b": "length"}
    assert results.cached == {"b": 16}


@pytest.mark.parametrize("depth", [1, 2])
def test_a_window_shared_in_part_leaves_room_for_the_rest(depth):
    engine = engine_of("window", depth)
    prompt = [(i * 7) % VOCAB for i in range(300)]
    run(engine, [submit("a", prompt, max_tokens=5, ignore_eos=True)])
    results = run(engine, [submit("b", prompt[:250] + [1] * 100, max_tokens=5, ignore_eos=True)], most=200)
    assert results.finish == {"b": "length"}


@pytest.mark.parametrize("depth", [1, 2])
def test_a_step_that_cannot_start_runs_again(depth):
    class Tired(SimExecutor):
        def launch(self, plan: StepPlan) -> DoneFlight:
            if plan.step == 2:
                raise RuntimeError("can't start new thread")
            return super().launch(plan)

    engine = make_engine(executor_class=Tired, pipeline_depth=depth, max_num_seqs=1)
    results = run(engine, [submit("a", [1] * 5, max_tokens=20), submit("b", [2] * 5, max_tokens=20)])
    assert results.finish == {"a": "length", "b": "length"}
    assert engine.counters.failed_steps == 1
    assert engine.heap.stats()[0].live == engine.heap.stats()[0].in_transit == 0
