"""The clock that closes idle sessions, with a hand on its time; the engine behind it answers as told."""

import asyncio
from typing import Any

from infergc.server.sessions import SessionClock


class Engine:
    """Answers every question about a session alike, and does something of its own while it is asked."""

    healthy = True

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


def test_names_beyond_the_engines_limit_do_not_pile_up() -> None:
    """The engine has closed as many sessions itself; the oldest are asked about before their time is over."""
    engine = Engine("unknown")
    clock, now = clock_of(engine, most=5)
    for number in range(200):
        now[0] += 0.001
        clock.touch("", f"s{number}")
        if number % 10 == 9:
            asyncio.run(clock.close_idle())
            assert len(clock._used) == 5
    assert [session for session, _, _ in engine.asked] == [f"s{number}" for number in range(195)]


def test_one_beyond_the_limit_that_is_busy_is_kept() -> None:
    engine = Engine("busy")
    clock, _ = clock_of(engine, most=1)
    clock.touch("", "a")
    clock.touch("", "b")
    asyncio.run(clock.close_idle())
    assert set(clock._used) == {("", "a"), ("", "b")}
