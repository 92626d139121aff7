"""A request that is gone when its token comes, at pipeline depth 2: nothing rises again, and nothing leaks."""

from typing import Any

import pytest

from infergc.engine.messages import Abort, Ask, Command, Submit
from infergc.engine.ports import Sink
from infergc.params import SamplingParams
from infergc.sched.plan import StepOutcome, StepPlan
from samples.engines import make_engine, run

PROMPT, OTHER = list(range(40)), list(range(20, 45))
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "choices": {"n": 3},
    "beams": {"use_beam_search": True, "n": 3},
}
DELETE = Ask(1, "close_session", {"salt": "", "session": "chat", "reason": "asked"})
ENDINGS: dict[str, tuple[Command, ...]] = {
    "aborted": (Abort("a"),),
    "deleted, then aborted": (DELETE, Abort("a")),
    "aborted, then deleted": (Abort("a"), DELETE),
    "stopped": (Abort("a", stopped=True),),
    "deleted, then stopped": (DELETE, Abort("a", stopped=True)),
}


class Log(Sink):
    """What was planned, and what came of it."""

    def __init__(self) -> None:
        self.plans: list[StepPlan] = []
        self.outcomes: list[StepOutcome] = []

    @property
    def in_flight(self) -> list[StepPlan]:
        return self.plans[len(self.outcomes) :]

    def planned(self, plan: StepPlan) -> None:
        self.plans.append(plan)

    def landed(self, outcome: StepOutcome) -> None:
        self.outcomes.append(outcome)


def ask(name: str, prompt: list[int], tokens: int, session: str = "", **shape: Any) -> Submit:
    return Submit(name, prompt, SamplingParams(max_tokens=tokens, seed=3, **shape), session=session)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_late_token_is_nobodys(shape: str, ending: str) -> None:
    """A request of the same name takes over the slot, before the token comes."""
    log, choices = Log(), SHAPES[shape].get("n", 1)
    engine = make_engine(pipeline_depth=2, max_num_seqs=choices, sinks=[log])
    engine.step([ask("a", PROMPT, 100, "chat", **SHAPES[shape])])
    while sum(int(plan.sample.sum()) for plan in log.in_flight) < choices:
        engine.step()
    (late,) = log.in_flight

    outputs = engine.step([*ENDINGS[ending], ask("a", OTHER, 12)])
    assert log.outcomes[-1].step == late.step
    assert (log.outcomes[-1].tokens >= 0).sum() == choices, "a token came for each"
    reason = "stop" if "stopped" in ending and shape != "beams" else "abort"
    assert [(delta.finish, delta.tokens) for delta in outputs.news()] == [(reason, [])] * choices
    if shape != "beams":  # their slots are free when the collector has found them
        assert set(log.plans[-1].slots) <= set(late.slots)

    results = run(engine, [])
    assert results.tokens == run(make_engine(), [ask("a", OTHER, 12)]).tokens
    engine.step([DELETE])
    (answer,) = engine.step([Ask(2, "verify")]).answers
    assert (answer.value, answer.error) == ("", "")
    assert not engine.heap.graph.objects
    assert not len(engine.scheduler.sessions)
    (group,) = engine.heap.stats()
    assert group.free + group.cached == group.capacity


@pytest.mark.parametrize("shape", ["plain", "choices"])
def test_tokens_still_come_when_only_the_session_is_gone(shape: str) -> None:
    engine = make_engine(pipeline_depth=2)
    engine.step([ask("a", PROMPT, 30, "chat", **SHAPES[shape])])
    told = run(engine, [DELETE])
    alone = run(make_engine(), [ask("a", PROMPT, 30, **SHAPES[shape])])
    assert told.tokens == alone.tokens
    assert not engine.heap.graph.objects
