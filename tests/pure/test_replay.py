"""Law 10: a recorded run is lived through again from its record alone, the collector's part included."""

from collections.abc import Iterable
from hashlib import sha256

import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Ask, Command, Submit
from infergc.engine.ports import Collection
from infergc.engine.record import Recorder, replay
from infergc.heap.groups import GroupSpec
from infergc.params import SamplingParams
from laws.oracle import dump
from samples.engines import facts, make_engine, submit

MIXED = (GroupSpec("full", 1000), GroupSpec("window", 1000, 48))
SETTINGS = {
    "gc_young_steps": 4, "gc_survivor_steps": 8, "gc_tenured_steps": 16, "gc_minor_pages": 2, "gc_major_pages": 16,
    "gc_target_free": 0.1,
}  # fmt: skip


class Erratic:
    """A machine whose speed is anybody's guess: budgets that no two runs share."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def units(self, micros: float) -> int:
        self._state = self._state * 1103515245 + 12345 & 0x7FFFFFFF
        return 1 + self._state // 7 % (60 if micros < 100 else 300)

    def learn(self, budget: int, work: int, micros: float) -> None:
        pass


def bursts() -> Iterable[list[Command]]:
    """Loads with pauses between them: chats whose sessions end, beams that are cancelled, settings that change."""
    for number in range(24):
        shared = [number % 5] * 40
        params = SamplingParams(seed=number, max_tokens=20, ignore_eos=True)
        yield [
            Submit(f"chat{number}", [*shared, *range(number, number + 24)], params, session=f"s{number % 6}"),
            submit(f"beam{number}", [*shared, 9], n=2, use_beam_search=True, temperature=0, max_tokens=9),
        ]
        yield [Abort(f"beam{number}")] if number % 3 else []
        if number % 4 == 0:
            for session in (f"s{number % 6}", f"s{(number + 3) % 6}"):  # one whose request runs, and one at rest
                yield [Ask(number, "close_session", {"salt": "", "session": session, "reason": "asked"})]
        if number == 12:
            yield [Ask(number, "settings", {"gc_young_steps": 2, "gc_step_us": 1.0})]


def live(engine: Engine) -> None:
    """As the engine's process does, but that now and then somebody comes while it cleans up."""
    for at, commands in enumerate(bursts()):
        engine.step(commands)
        for _ in range(30 if at % 5 else 3):
            if engine.has_work():
                engine.step()
        for _ in range(at % 4):
            if engine.has_work() or not engine.idle():
                break
    while engine.has_work():
        engine.step()
    while engine.idle():
        pass


def digest(engine: Engine) -> str:
    """Of all that the heap holds, who waits for a look, and what the collector has done."""
    collector, generations = engine.pacer.collector, engine.heap.tree.generations
    waiting = [[(number, step) for number, (step, _) in queue.items()] for queue in generations._waiting]
    done = (collector.counters, collector._phase, generations.promoted, generations.demoted, engine.heap.counters)
    return sha256(repr((dump(engine.heap), waiting, done)).encode()).hexdigest()


@pytest.mark.parametrize("depth", [1, 2])
def test_a_run_with_idle_slices_is_replayed_from_its_record(depth: int) -> None:
    settings = {"pages": 40, "pipeline_depth": depth, **SETTINGS}
    first, second = Recorder(), Recorder()
    engine = make_engine(facts(MIXED), sinks=[first], **settings)
    engine.pacer.rate = Erratic(depth)
    live(engine)
    calls = [one for one in first.inputs if isinstance(one, Collection)]
    idle = [one for one in calls if one.idle]
    assert len(idle) > 10
    assert len({one.step for one in idle}) > 5
    assert engine.heap.counters.evicted > 50
    assert engine.heap.counters.cycles > 2
    assert engine.pacer.collector.counters.major > 1

    twin = make_engine(facts(MIXED), sinks=[second], record=first.outcomes, **settings)
    replay(first, twin)
    assert second.inputs == first.inputs
    assert second.events == first.events
    assert digest(twin) == digest(engine)


def test_other_budgets_are_another_run() -> None:
    """So a replay without them would not do: what they decide is part of the behaviour."""
    digests = set()
    for seed in (1, 2):
        engine = make_engine(facts(MIXED), pages=40, **SETTINGS)
        engine.pacer.rate = Erratic(seed)
        live(engine)
        digests.add(digest(engine))
    assert len(digests) == 2


def test_every_call_of_the_collector_is_told_with_its_step() -> None:
    record = Recorder()
    engine = make_engine(sinks=[record])
    engine.step()
    engine.idle()
    engine.step([submit("a", [1] * 20, max_tokens=2)])
    engine.idle()
    calls = [one for one in record.inputs if isinstance(one, Collection)]
    assert [(one.step, one.idle) for one in calls] == [(0, False), (0, True), (1, False), (1, True)]
    assert all(one.budget > 0 for one in calls)


def test_with_the_collector_off_nothing_is_told() -> None:
    record = Recorder()
    engine = make_engine(sinks=[record], gc="off")
    engine.step([submit("a", [1] * 20, max_tokens=2)])
    assert not engine.idle()
    assert len(record.inputs) == 1
