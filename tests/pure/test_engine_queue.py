"""Requests that wait: until when they may, what for, how long they did, and that their client hears of it."""

import pytest

from infergc.client.prepare import RequestBuilder
from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Command, Outputs, Submit, Tick
from infergc.engine.queue_times import WAIT_BOUNDS, QueueTimes
from infergc.engine.record import Recorder, replay
from infergc.params import MAX_QUEUE_TIMEOUT, ParameterError, SamplingParams
from infergc.sched.waits import MEMORY, ORDER, SLOTS, STEP, TOKENS
from infergc.sim.executor import SimExecutor
from samples.engines import facts, make_engine, run, submit

LONG = {"max_tokens": 60, "ignore_eos": True}


def waits(name: str, seconds: int | None, prompt: int = 20, **params: object) -> Submit:
    request = submit(name, [1] * prompt, **{**LONG, **params})
    request.queue_timeout = seconds
    return request


def finishes(outputs: Outputs) -> dict[str, str]:
    return {delta.request_id: delta.finish for delta in outputs.deltas if delta.finish}


def idle(engine: Engine) -> dict[str, str]:
    """Step until nothing is left; how everything ended."""
    ends: dict[str, str] = {}
    while engine.has_work():
        ends |= finishes(engine.step())
        engine.heap.check()
    return ends


# ---- deadlines


def test_who_was_not_started_in_time_ends_and_others_go_on() -> None:
    engine = make_engine(max_num_seqs=1)
    engine.step([Tick(5), waits("runs", 2), waits("late", 2), waits("patient", 40), waits("endless", None)])
    assert finishes(engine.step([Tick(7)])) == {}, "it came within second 5: two seconds are over with second 8"
    outputs = engine.step([Tick(8)])
    assert finishes(outputs) == {"late": "timeout"}
    (delta,) = outputs.deltas
    assert "without being started" in delta.error
    assert idle(engine) == dict.fromkeys(("runs", "patient", "endless"), "length")
    assert engine.counters.finished == {"timeout": 1, "length": 3}


def test_ticks_before_the_deadline_and_after_the_start_do_nothing() -> None:
    engine = make_engine(max_num_seqs=1)
    engine.step([waits("a", 3), waits("b", 3, max_tokens=2)])
    for second in range(1, 4):
        assert not finishes(engine.step([Tick(second)]))
    assert idle(engine) == {"a": "length", "b": "length"}
    assert not finishes(engine.step([Tick(900)]))


@pytest.mark.parametrize("kind", [{"n": 3}, {"use_beam_search": True, "n": 2, "beam_width": 3}])
def test_all_choices_of_a_late_request_end(kind: dict[str, object]) -> None:
    engine = make_engine(max_num_seqs=4)
    engine.step([*(submit(f"r{at}", [at] * 20, **LONG) for at in range(4)), waits("late", 1, **kind)])
    assert engine.queue.unstarted == kind["n"]
    ends = finishes(engine.step([Tick(2)]))
    assert ends == {f"late#{at}": "timeout" for at in range(int(kind["n"]))}
    assert engine.queue.unstarted == 0
    assert set(idle(engine).values()) == {"length"}


def test_choices_outlive_an_aborted_first_one_and_have_the_same_deadline() -> None:
    engine = make_engine(max_num_seqs=2)
    engine.step([*(submit(f"r{at}", [at] * 20, **LONG) for at in range(2)), waits("late", 1, n=2)])
    assert finishes(engine.step([Abort("late#0")])) == {"late#0": "abort"}
    assert engine.queue.unstarted == 1
    assert finishes(engine.step([Tick(2)])) == {"late#1": "timeout"}
    idle(engine)


def test_a_preempted_request_had_started_and_stays() -> None:
    engine = make_engine(pages=12, max_num_seqs=4)
    engine.step([waits(name, 1, prompt=40, max_tokens=100) for name in "ab"])
    while not engine.scheduler.counters.preemptions:
        engine.step()
    assert len(engine.scheduler.waiting) == 1
    assert not finishes(engine.step([Tick(50)]))
    assert idle(engine) == {"a": "length", "b": "length"}


def test_a_session_goes_on_with_its_turn_before_when_the_next_is_late() -> None:
    engine = make_engine(max_num_seqs=1)
    turn = submit("first", [1] * 20, max_tokens=2, ignore_eos=True)
    turn.session = "s"
    run(engine, [turn])
    late = waits("late", 1)
    late.session = "s"
    engine.step([submit("runs", [2] * 20, **LONG), late])
    assert finishes(engine.step([Tick(2)])) == {"late": "timeout"}
    idle(engine)
    assert len(engine.scheduler.sessions) == 1


@pytest.mark.parametrize("depth", [1, 2])
def test_a_run_with_deadlines_replays(depth: int) -> None:
    record = Recorder()
    engine = make_engine(max_num_seqs=2, sinks=[record], pipeline_depth=depth)
    load: list[Command] = [waits(f"r{at}", 1 + at % 3, max_tokens=20) for at in range(12)]
    engine.step(load)
    ends: dict[str, str] = {}
    for step in range(400):
        ends |= finishes(engine.step([Tick(step // 20)] if step % 20 == 0 else []))
    assert set(ends.values()) == {"length", "timeout"}
    again = Recorder()
    replay(record, make_engine(max_num_seqs=2, sinks=[again], pipeline_depth=depth, record=record.outcomes))
    assert again.events == record.events


@pytest.mark.parametrize("bad", [0, -1, MAX_QUEUE_TIMEOUT + 1, 1.5, True, "5"])
def test_a_bad_time_is_refused_by_name(bad: object) -> None:
    builder = RequestBuilder(make_engine().ready, 0)
    with pytest.raises(ParameterError, match=r"^queue_timeout: .* must be a whole number of seconds from 1 to 86400$"):
        builder.build([1], SamplingParams(), queue_timeout=bad)
    assert builder.build([1], SamplingParams(), queue_timeout=MAX_QUEUE_TIMEOUT).queue_timeout == MAX_QUEUE_TIMEOUT
    assert builder.build([1], SamplingParams()).queue_timeout is None


# ---- what for


def reason_after(engine: Engine, *requests: Submit) -> str:
    engine.step(requests)
    return engine.scheduler.waits_for


def test_the_scheduler_says_what_the_first_in_line_waits_for() -> None:
    assert reason_after(make_engine()) == STEP, "nobody waits"
    assert reason_after(make_engine(max_num_seqs=1), waits("a", None), waits("b", None)) == SLOTS
    assert reason_after(make_engine(max_num_batched_tokens=64), waits("a", None, 64), waits("b", None, 40)) == TOKENS
    assert reason_after(make_engine(pages=10), waits("a", None, 40), waits("b", None, 150)) == MEMORY


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_is_summed_by_what_is_waited_for() -> None:
    clock = Clock()
    times = QueueTimes(clock)
    for waiting, reason, seconds in ((3, SLOTS, 2.0), (0, STEP, 50.0), (4, MEMORY, 0.5), (2, TOKENS, 1.0)):
        clock.now += seconds
        times.elapse(waiting, reason)
    assert {reason: seconds for reason, seconds in times.seconds.items() if seconds} == {
        SLOTS: 6.0, TOKENS: 2.0, MEMORY: 0.5, ORDER: 1.5,
    }  # fmt: skip


def test_a_wait_ends_with_the_start_and_counts_once_a_request() -> None:
    engine, clock = make_engine(max_num_seqs=2), Clock()
    engine.queue = QueueTimes(clock)
    engine.step([waits("a", None, n=2)])
    engine.step([waits("b", None), waits("gone", None)])
    clock.now += 0.3
    engine.step([Abort("gone")])
    clock.now += 0.4
    idle(engine)
    found = dict(zip(WAIT_BOUNDS, engine.queue.counts, strict=False))
    assert {bound: count for bound, count in found.items() if count} == {0.001: 1, 1.0: 1}
    assert engine.queue.waited == pytest.approx(0.7)
    assert (engine.queue.taken, engine.queue.unstarted) == (4, 0)


@pytest.mark.parametrize("model", [facts(), facts(eos=(3,))])
def test_everything_taken_starts_or_ends(model: object) -> None:
    engine = make_engine(model, pages=20, max_num_seqs=4, pipeline_depth=2, executor_class=SimExecutor)
    load = [waits(f"r{at}", None, 10 + 7 * at % 90, n=1 + at % 3, ignore_eos=False) for at in range(30)]
    run(engine, [*load, *(Abort(f"r{at}") for at in range(0, 30, 7)), Abort("r5#1"), waits("r1", None)])
    assert engine.queue.taken == sum(request.params.n for request in load) + 1, "the refused one is taken as well"
    assert engine.queue.unstarted == 0
    assert not engine.queue._since


@pytest.mark.parametrize("kind", [{"n": 3}, {"use_beam_search": True, "n": 2, "beam_width": 3}])
def test_all_choices_start_with_their_request(kind: dict[str, object]) -> None:
    engine = make_engine(max_num_batched_tokens=32)
    engine.step([waits("a", 1, prompt=200, **kind)])
    assert engine.queue.unstarted == 0, "though the prompt is not computed, and nothing was forked"
    assert not finishes(engine.step([Tick(90)]))
    assert set(idle(engine).values()) == {"length"}


# ---- telling


def test_the_counters_are_told_when_the_queue_moves() -> None:
    """A prompt of many steps gives no token: that it has started is news all the same, once."""
    engine = make_engine(max_num_seqs=1, max_num_batched_tokens=32)
    told = [engine.step([waits("a", None, prompt=400), waits("b", None)]).stats] + [engine.step().stats for _ in "1234"]
    assert told[0]["queue"] == {"taken": 2, "unstarted": 1}
    assert told[0]["requests"] == {"running": 1, "waiting": 1, "loading": 0}
    assert told[1:] == [None] * 4
    assert engine.step([waits("c", None)]).stats["queue"] == {"taken": 3, "unstarted": 2}
