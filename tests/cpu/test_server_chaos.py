"""Clients who leave at random moments, beams, choices and sessions among them: at idle nothing is left.

``--requests N`` sets how many requests each test makes (1,000 unless told; 10,000 were run).
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cpu.served import make_served
from infergc.client import EngineClient, RequestStream
from infergc.config import engine_config
from infergc.params import SamplingParams
from infergc.units import MIB
from samples.at_rest import at_rest, kv_of
from samples.chaos import Asked, load, sessions
from samples.servers import PATIENCE, Server, serving

SETTINGS: dict[str, Any] = {"dtype": "float32", "kv_cache_memory": "4MiB", "threads": 1, "max_num_seqs": 24}
FLAGS = [text for name, value in SETTINGS.items() for text in (f"--{name.replace('_', '-')}", str(value))]
AT_ONCE = 32  # requests
GROWTH = 24 * MIB  # of resident memory after the first third, at most: what 1,000 requests leave would be more


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def count(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--requests"))


class Crowd:
    """Does what a load asks, so many at once, and counts what came of it."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self, asked: Iterable[Asked]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for one in asked:
                await self._places.acquire()
                tasks.create_task(self._one(one))

    async def told(self, asked: Asked) -> int:
        """Make the request; returns how many texts came to their end."""
        raise NotImplementedError

    async def delete(self, session: str) -> None:
        raise NotImplementedError

    async def _one(self, asked: Asked) -> None:
        """A client who makes its request, and leaves when its patience ends."""
        closing = asyncio.create_task(self._delete_soon(asked.session)) if asked.deletes else None
        try:
            async with asyncio.timeout(asked.patience):
                assert await self.told(asked) == asked.choices
            assert asked.patience is None, "a text of 1,000 tokens came to its end in no time"
            self.seen["told"] += 1
        except TimeoutError:
            self.seen["dropped"] += 1
            self.seen["dropped without a stream"] += not asked.streams
        finally:
            if closing is not None:
                await closing
            self.seen[asked.kind] += 1
            self._places.release()

    async def _delete_soon(self, session: str) -> None:
        await asyncio.sleep(0.02)
        await self.delete(session)


class HttpCrowd(Crowd):
    """Clients of a server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        super().__init__()
        self._client = client

    async def told(self, asked: Asked) -> int:
        session = {"session_id": asked.session} if asked.session else {}
        body = {"prompt": asked.prompt, "stream": asked.streams, **asked.params, **session}
        if not asked.streams:
            answer = await self._client.post("/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            return sum(choice["finish_reason"] == "length" for choice in answer.json()["choices"])
        async with self._client.stream("POST", "/v1/completions", json=body) as stream:
            lines = [line async for line in stream.aiter_lines()]
        assert lines[-2:] == ["data: [DONE]", ""]
        return sum('"finish_reason":"length"' in line for line in lines)

    async def delete(self, session: str) -> None:
        answer = await self._client.delete(f"/v1/sessions/{session}")
        assert answer.status_code in {200, 404}
        self.seen["deleted"] += answer.status_code == 200


class EngineCrowd(Crowd):
    """Requests to an engine, without a server between."""

    def __init__(self, client: EngineClient) -> None:
        super().__init__()
        self._client = client

    async def told(self, asked: Asked) -> int:
        request = self._client.request(asked.prompt, SamplingParams(**asked.params), session=asked.session)
        with self._client.submit(request) as stream:
            return await _ends(stream)

    async def delete(self, session: str) -> None:
        self.seen["deleted"] += await self._client.close_session(session) == "closed"


async def _ends(stream: RequestStream) -> int:
    ends = 0
    async for deltas in stream:
        assert not any(delta.error for delta in deltas)
        ends += sum(delta.finish == "length" for delta in deltas)
    return ends


def resident(server: Server) -> int:
    """Bytes that the server and its engine have in memory."""
    top = psutil.Process(server.process.pid)
    return sum(process.memory_info().rss for process in (top, *top.children(recursive=True)))


async def in_thirds(server: Server, asked: list[Asked]) -> tuple[Counter[str], int, int]:
    """Run a load; what was seen, and memory at rest after a third of it and in the end."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, limits=limits) as client:
        crowd, sizes = HttpCrowd(client), []
        for part in (asked[: len(asked) // 3], asked[len(asked) // 3 :]):
            await crowd.run(part)
            for session in sessions():
                await crowd.delete(session)
            await asyncio.to_thread(server.wait_until_idle)
            sizes.append(resident(server))
    return crowd.seen, sizes[0], sizes[1]


def assert_as_meant(seen: Counter[str], count: int) -> None:
    """All kinds were there, three in ten left, and half of those had not asked for a stream."""
    assert seen["told"] + seen["dropped"] == count
    assert seen["dropped"] == pytest.approx(0.3 * count, rel=0.2)
    assert seen["dropped without a stream"] == pytest.approx(0.15 * count, rel=0.3)
    assert min(seen[kind] for kind in ("plain", "choices", "beams", "session", "deleted")) > count // 50


def test_nothing_is_left_when_clients_leave(model: Path, count: int) -> None:
    with serving(model, *FLAGS) as server:
        capacity = server.pages("free")
        seen, early, late = asyncio.run(in_thirds(server, list(load(count, seed=1))))
        print(f"{dict(seen)}; {early / MIB:.1f} MiB after a third, {late / MIB:.1f} MiB in the end")
        assert_as_meant(seen, count)
        assert server.pages("in_transit") == 0
        assert server.pages("free") + server.pages("cached") == capacity
        assert server.metrics()['infergc_requests_finished_total{reason="error"}'] == 0
        assert late - early < GROWTH


async def dropped_by_an_engine(model: Path, count: int, **settings: Any) -> tuple[Counter[str], dict[str, Any], str]:
    """The load without HTTP between; what was seen, the engine's figures at rest, and what ``verify`` found."""
    client = await EngineClient.start(engine_config(model=model, **SETTINGS, **settings))
    try:
        crowd = EngineCrowd(client)
        await crowd.run(load(count, seed=2))
        for session in sessions():
            await client.close_session(session)
        return crowd.seen, await at_rest(client), await client.verify()
    finally:
        await client.close()


def test_nothing_is_found_wrong_when_requests_are_dropped(model: Path, count: int) -> None:
    count //= 4
    seen, stats, found = asyncio.run(dropped_by_an_engine(model, count))
    assert_as_meant(seen, count)
    assert kv_of(stats)["free"] + kv_of(stats)["cached"] == kv_of(stats)["capacity"]
    assert found == ""
    assert stats["collector"]["cycles"] > 0
    assert stats["collector"]["leaks"] == stats["collector"]["garbage"] == stats["collector"]["corrupt"] == 0
