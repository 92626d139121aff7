"""The clock that closes idle sessions, with a hand on its time; the engine behind it answers as told."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from infergc.client import EngineDeadError
from infergc.server.routes.sessions import SessionClock


class Engine:
    """Answers every question about a session alike, and does something of its own while it is asked."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str]] = []
        self.meanwhile: Any = lambda: None

    async def close_session(self, session: str, salt: str = "", reason: str = "asked") -> str:
        self.asked.append((session, salt, reason))
        self.meanwhile()
        return self.answer


def clock_of(engine: Engine, most: int = 100) -> tuple[SessionClock, list[float]]:
    now = [0.0]
    return SessionClock(engine, 10.0, most, lambda: now[0]), now


def test_only_what_is_idle_is_closed_and_then_forgotten() -> None:
    engine = Engine("closed")
    clock, now = clock_of(engine)
    clock.touch("", "old")
    now[0] = 8.0
    clock.touch("t", "young")
    now[0] = 11.0
    asyncio.run(clock.close_idle())
    assert engine.asked == [("old", "", "idle")]
    now[0] = 30.0
    asyncio.run(clock.close_idle())
    asyncio.run(clock.close_idle())
    assert engine.asked == [("old", "", "idle"), ("young", "t", "idle")]


def test_one_that_is_busy_is_asked_about_again_a_time_out_later() -> None:
    engine = Engine("busy")
    clock, now = clock_of(engine)
    clock.touch("", "s")
    for now[0] in (11.0, 12.0, 20.0, 22.0):
        asyncio.run(clock.close_idle())
    assert len(engine.asked) == 2


def test_one_that_is_used_while_another_is_closed_stays() -> None:
    engine = Engine("closed")
    clock, now = clock_of(engine)
    clock.touch("", "a")
    clock.touch("", "b")
    now[0] = 11.0
    engine.meanwhile = lambda: clock.touch("", "b")
    asyncio.run(clock.close_idle())
    assert engine.asked == [("a", "", "idle")]
    now[0] = 22.0
    engine.meanwhile = lambda: None
    asyncio.run(clock.close_idle())
    assert [session for session, *_ in engine.asked] == ["a", "b"]


def while_it_runs(clock: SessionClock, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the clock beside a scenario; it must still run at the end."""

    async def both() -> None:
        running, told = asyncio.create_task(clock.run()), asyncio.create_task(scenario())
        done, _ = await asyncio.wait((running, told), timeout=20, return_when=asyncio.FIRST_COMPLETED)
        for task in (running, told):
            task.cancel()
        assert done == {told}, "the clock stopped" if running in done else "nothing happened"
        await told

    asyncio.run(both())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_new_timeout_holds_at_once() -> None:
    """With the old one the clock sleeps for 1,000 s between two looks, and the session has 9,980 s left."""
    engine, now = Engine("closed"), [0.0]
    clock = SessionClock(engine, 10_000.0, 100, lambda: now[0])

    async def scenario() -> None:
        clock.touch("", "s")
        now[0] = 20.0
        await asyncio.sleep(0.01)
        assert not engine.asked
        clock.timeout = 15.0
        await until(lambda: bool(engine.asked))

    while_it_runs(clock, scenario)


@pytest.mark.parametrize("error", [ValueError("close_session: no"), TimeoutError(), RuntimeError("not that one")])
def test_what_goes_wrong_with_one_session_is_told_and_stops_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    engine, now = Engine("closed"), [0.0]
    clock = SessionClock(engine, 0.1, 100, lambda: now[0])

    def fails_for_a() -> None:
        if engine.asked[-1][0] == "a":
            raise error

    engine.meanwhile = fails_for_a

    async def scenario() -> None:
        clock.touch("", "a")
        clock.touch("", "b")
        now[0] = 1.0
        await until(lambda: len(engine.asked) == 2)
        now[0] = 2.0
        await until(lambda: len(engine.asked) == 3)

    while_it_runs(clock, scenario)
    assert [session for session, *_ in engine.asked] == ["a", "b", "a"], "b is closed, and a is tried again"
    assert caplog.text.count('session "a" could not be closed') == 2


def test_it_outlives_an_engine() -> None:
    engine, now = Engine("unknown"), [0.0]
    clock = SessionClock(engine, 0.1, 100, lambda: now[0])

    def dies() -> None:
        if len(engine.asked) == 1:
            raise EngineDeadError("gone")

    engine.meanwhile = dies

    async def scenario() -> None:
        clock.touch("", "s")
        now[0] = 1.0
        await until(lambda: len(engine.asked) == 2)

    while_it_runs(clock, scenario)
    assert engine.asked == [("s", "", "idle")] * 2


def test_names_beyond_the_engines_limit_are_forgotten_at_once() -> None:
    """The engine has closed as many sessions itself; however many come while it is asked, they do not pile up."""
    engine = Engine("busy")
    clock, now = clock_of(engine, most=5)
    numbers = iter(range(10_000))

    def come() -> None:
        for _ in range(3):
            clock.touch("", f"s{next(numbers)}")

    engine.meanwhile = come
    come()
    for _ in range(50):
        now[0] += 11.0
        asyncio.run(clock.close_idle())
        assert len(clock._used) <= 5
    assert len(engine.asked) >= 50


def test_a_name_that_was_forgotten_is_known_again_when_its_request_ends() -> None:
    engine = Engine("closed")
    clock, now = clock_of(engine, most=1)
    for session in "aba":  # the last is the end of the first's request
        clock.touch("", session)
    now[0] = 11.0
    asyncio.run(clock.close_idle())
    assert [session for session, *_ in engine.asked] == ["a"]
