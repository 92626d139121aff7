"""The line before the engine: places, and when to come again."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from infergc.client import EngineDeadError
from infergc.server import errors
from infergc.server.entrance.door import Door
from infergc.server.entrance.gate import Gate, place_of
from infergc.server.entrance.line import Drain, Line, Place
from infergc.server.errors import ApiError


@dataclass
class Engine:
    """What a line asks of the engine's client."""

    slots: int
    open_requests: int = 0
    unstarted_requests: int = 0
    healthy: bool = True
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def ready(self) -> SimpleNamespace:
        return SimpleNamespace(max_num_seqs=self.slots)

    def check_alive(self) -> None:
        if not self.healthy:
            raise EngineDeadError("gone")

    def tells(self, running: int, waiting: int, unstarted: int) -> None:
        self.stats = {"requests": {"running": running, "waiting": waiting}}
        self.unstarted_requests = unstarted


def enter_all(line: Line) -> list[Place]:
    """As many as may."""
    places: list[Place] = []
    while (place := entered(line)) is not None:
        places.append(place)
    return places


def entered(line: Line) -> Place | None:
    """A place, or None where that is refused for want of one."""
    try:
        return line.enter()
    except ApiError as error:
        if (error.status_code, error.code) != (429, "queue_full"):
            raise
    return None


@pytest.mark.parametrize("most", [0, 1, 5])
def test_a_burst_before_any_news_finds_the_free_slots_and_the_queue(most: int) -> None:
    line = Line(Engine(slots=3), most)
    places = enter_all(line)
    assert (len(places), line.waiting, line.reading) == (3 + most, most, 3 + most)
    for place in places:
        place.leave()
        place.leave()
    assert (line.waiting, line.reading) == (0, 0)


def test_free_slots_are_no_room_where_somebody_waits_all_the_same() -> None:
    engine = Engine(slots=8)
    line = Line(engine, 2)
    engine.tells(running=3, waiting=1, unstarted=1)
    assert len(enter_all(line)) == 1
    engine.tells(running=4, waiting=0, unstarted=0)
    assert len(enter_all(line)) == 4 + 2 - 1, "one is being read already"


def test_submitted_requests_are_counted_where_they_are() -> None:
    engine = Engine(slots=1)
    line = Line(engine, 3)
    engine.tells(running=1, waiting=0, unstarted=0)
    place = line.enter()
    place.submit()
    engine.unstarted_requests += 1
    assert (line.waiting, line.reading) == (1, 0)
    engine.tells(running=1, waiting=0, unstarted=0)
    place.leave()
    assert (line.waiting, line.reading) == (0, 0)


def test_choices_are_counted_singly() -> None:
    engine = Engine(slots=4)
    line = Line(engine, 4)
    first, second = line.enter(), line.enter()
    first.widen(5)
    assert line.waiting == 2
    with pytest.raises(ApiError, match=r"2 of at most 4 requests wait \(--max-num-queued-reqs\), and this one would b"):
        second.widen(4)
    second.leave()
    assert (line.waiting, line.reading) == (1, 5)
    first.widen(5)
    assert line.reading == 5


def test_a_place_stays_whatever_the_news_is_meanwhile() -> None:
    engine = Engine(slots=4)
    line = Line(engine, 2)
    place = enter_all(line)[0]
    engine.tells(running=1, waiting=8, unstarted=8)
    place.widen(1)
    with pytest.raises(ApiError):
        place.widen(2)


def test_a_batch_that_stands_alone_has_room() -> None:
    engine = Engine(slots=4)
    line = Line(engine, 2)
    place = line.enter()
    place.widen(100)
    assert line.waiting == 96
    assert not enter_all(line)
    place.leave()
    engine.open_requests = 1
    with pytest.raises(ApiError, match="would bring 99 more"):
        line.enter().widen(100)


def test_without_an_engine_nobody_takes_a_place() -> None:
    line = Line(Engine(slots=1, healthy=False), 0)
    with pytest.raises(EngineDeadError):
        line.enter()
    assert not line.reading


def test_a_refusal_names_the_flag_and_is_counted() -> None:
    line = Line(Engine(slots=1), 1)
    enter_all(line)
    with pytest.raises(ApiError) as caught:
        line.enter()
    assert caught.value.body() == {
        "error": {
            "message": "the queue is full: 1 of at most 1 request wait (--max-num-queued-reqs); try again in 1 s",
            "type": "rate_limit_error",
            "param": None,
            "code": "queue_full",
        }
    }
    assert caught.value.headers == {"retry-after": "1"}
    assert line.refused == {"queue_full": 2}


def test_no_place_is_lost_whatever_happens() -> None:
    """Against a list of what is held, through a random life."""
    chance = random.Random(7)  # noqa: S311 - a load, no secret
    line, held = Line(Engine(slots=5), 20), dict[Place, int]()
    for _ in range(5000):
        match chance.choice(("enter", "widen", "submit", "leave")):
            case "enter":
                if (place := entered(line)) is not None:
                    held[place] = 1
                else:
                    assert line.reading >= 25
            case "widen" if held:
                place = chance.choice(list(held))
                try:
                    place.widen(held[place] + 2)
                    held[place] += 2
                except ApiError:
                    place.leave()
                    del held[place]
            case "submit" | "leave" as end if held:
                place = chance.choice(list(held))
                if end == "submit":
                    place.submit()
                place.leave()
                del held[place]
        assert line.reading == sum(held.values())


# ---- when to come again


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_break_is_what_the_queue_takes_to_drain() -> None:
    clock = Clock()
    drain = Drain(clock)
    for _ in range(100):
        clock.now += 0.25
        drain.left(1)
    assert [drain.seconds(waiting) for waiting in (0, 1, 4, 10, 100, 10_000)] == [1, 1, 1, 3, 25, 60]


def test_it_follows_a_change_of_pace() -> None:
    clock = Clock()
    drain = Drain(clock)
    for pace, expected in ((0.01, 1), (2.0, 20), (0.1, 1)):
        for _ in range(33):
            clock.now += pace
            drain.left(1)
        assert drain.seconds(10) == expected
    clock.now += 32.0
    assert drain.seconds(10) > 10, "none has left for long"


def test_before_anyone_left_it_is_as_long_as_they_wait() -> None:
    clock = Clock()
    drain = Drain(clock)
    assert drain.seconds(5) == 1
    clock.now += 7.5
    assert drain.seconds(5) == 8
    drain.left(3)
    drain.stands_empty()
    assert drain.seconds(5) == 1, "what was before the queue stood empty counts no more"


def test_choices_count() -> None:
    clock = Clock()
    drain = Drain(clock)
    clock.now += 10
    drain.left(20)
    assert drain.seconds(10) == 5


# ---- the gate


def test_a_body_that_does_not_come_gives_its_place_back() -> None:
    app, line = FastAPI(), Line(Engine(slots=1), 0)
    errors.install(app)

    @app.post("/v1/completions")
    async def complete(body: dict[str, Any], http: Request) -> int:
        assert place_of(http)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(http.receive(), 0.1)  # for the client to leave: as long as it likes
        return line.reading

    app.add_middleware(Gate, door=Door(), line=line, patience=0.05)

    async def never_whole() -> AsyncIterator[bytes]:
        yield b'{"prompt": '
        await asyncio.Event().wait()

    async def scenario() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return (
                await client.post(
                    "/v1/completions", content=never_whole(), headers={"content-type": "application/json"}
                ),
                await client.post("/v1/completions", json={}),
            )

    slow, good = asyncio.run(scenario())
    assert (slow.status_code, slow.json()["error"]["code"]) == (408, "body_timeout")
    assert slow.headers["connection"] == "close"
    assert "not complete after 0.05 s" in slow.json()["error"]["message"]
    assert (good.status_code, good.json(), line.reading) == (200, 1, 0)


def test_who_waited_in_vain_says_nothing_of_how_fast_others_go() -> None:
    engine, now = Engine(slots=1, open_requests=1), [0.0]
    line = Line(engine, 100, lambda: now[0])  # type: ignore[arg-type]
    places = enter_all(line)[:20]
    engine.tells(running=1, waiting=20, unstarted=20)
    for place in places:
        place.submit()
    now[0] = 5.0
    for place in places:
        assert place.time_out() == {"retry-after": "5"}, "none was served: to wait as long again is the least"
        place.leave()
