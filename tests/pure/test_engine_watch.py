"""How often an engine is started again, and when it counts as stuck: by a clock of the test's own."""

import asyncio
from typing import Any

import pytest

from infergc.client.engine import EngineDeadError
from infergc.client.pulse import Pulse
from infergc.client.restarts import RESTARTS_WITHIN, RestartBudget


def test_the_first_restart_comes_at_once_and_later_ones_after_longer_and_longer_pauses() -> None:
    budget = RestartBudget(8, lambda: 0.0)
    assert [budget.take() for _ in range(9)] == [0, 1, 2, 4, 8, 16, 30, 30, None]


def test_old_restarts_are_forgotten() -> None:
    now = [0.0]
    budget = RestartBudget(2, lambda: now[0])
    assert [budget.take() for _ in range(3)] == [0, 1, None]
    now[0] = RESTARTS_WITHIN
    assert budget.take() is None
    now[0] += 1
    assert [budget.take() for _ in range(3)] == [0, 1, None]


def test_none_may_be_allowed() -> None:
    assert RestartBudget(0).take() is None


@pytest.mark.parametrize(
    ("answers", "is_stuck"),
    [
        ([{"steps": at, "has_work": True} for at in range(1, 6)], False),
        ([{"steps": 1, "has_work": True}] * 5, True),
        ([{"steps": 1, "has_work": False}] * 5, False),
        ([{"steps": 1, "has_work": True}] * 4 + [{"steps": 2, "has_work": True}], False),
    ],
)
def test_stuck_is_who_has_work_and_takes_no_step(answers: list[dict[str, Any]], is_stuck: bool) -> None:
    """Each answer takes a second; the bound is 3 s."""
    now, left = [0.0], answers.copy()

    async def ask(_what: str) -> dict[str, Any]:
        now[0] += 1
        if not left:
            raise EngineDeadError("gone")
        return left.pop(0)

    pulse = Pulse(ask, 3.0, lambda: now[0])
    pulse.beat = 0.0
    asyncio.run(pulse.feel())
    now[0] -= 1  # the last question had no answer
    assert pulse.is_stuck == is_stuck
    assert (pulse.still > 0) == is_stuck


def test_an_idle_engine_stands_still_only_once_an_answer_is_overdue() -> None:
    now = [0.0]

    async def scene() -> None:
        answers: list[asyncio.Future[dict[str, Any]]] = []

        def ask(_what: str) -> asyncio.Future[dict[str, Any]]:
            answers.append(asyncio.get_running_loop().create_future())
            return answers[-1]

        pulse = Pulse(ask, 3.0, lambda: now[0])
        feeling = asyncio.ensure_future(pulse.feel())
        while not answers:
            await asyncio.sleep(0)
        now[0] += pulse.beat / 2
        assert pulse.still == 0, "it has a moment for its answer"
        now[0] = 4.0
        assert (pulse.still, pulse.silent, pulse.is_stuck) == (4, 4, True)
        answers[0].set_result({"steps": 0, "has_work": False})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now[0] += 100
        assert (pulse.still, pulse.is_stuck) == (0, False)
        feeling.cancel()

    asyncio.run(scene())
