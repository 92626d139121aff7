"""A soak: mixed loads and one fault after another, over and over; answers stay the same and the laws hold throughout.

``--soak SECONDS`` says how long (a minute and a half unless told, an hour was run). Every fault is tried at least once.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import httpx
import psutil
import pytest

from cpu import faulty
from cpu.served import make_served
from infergc.units import MIB
from samples.inspection import ADMIN_KEY, HEADERS, check_scrape
from samples.lengths import at_length
from samples.servers import PATIENCE, Server, environment, infergc, serving, wait_for
from samples.soak import SESSION, Asked, Clients, answered, asks

KEYS = ("one", "two")
BASICS = ("--dtype", "float32", "--threads", "1", "--deterministic")
FLAGS = (*BASICS, "--kv-cache-memory", "256KiB", "--host-cache-memory", "512KiB", "--disk-cache-size", "4MiB",
         "--max-num-seqs", "12", "--max-num-queued-reqs", "24", "--shutdown-timeout", "60",
         "--max-engine-restarts", "1000", "--session-timeout", "3600", "--executor", faulty.NAME)  # fmt: skip
REQUESTS, FLAKY = 48, 8  # that are known; those among them whose steps fail, and as many at whose start a page is lost
POISON = Asked({"prompt": [faulty.ALWAYS, 11, 12], "max_tokens": 8}, KEYS[0], code="request_failed")
CLIENTS, CROWD = 10, 80
POISONS = 4  # chances of the request that always fails, beside one of each other
SECONDS = at_length(2.0, 4.0)  # of load around a fault
GROWTH = 48 * MIB  # of server and engine at rest after the first round of faults, at most
DEFECTS = ("leaked_pages", "garbage_objects", "corrupt_counts")
REFUSED = frozenset({"queue_full"})
AWAY = frozenset({"engine_restarting", "engine_unavailable"})  # what is said while there is no engine
LEAVING = frozenset({"shutting_down", "gone"})

LIVE = "/health/live"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def known(model: Path) -> list[Asked]:
    """Requests, and what a server answers that has nothing else to do and caches nothing."""
    flags = (*BASICS, "--kv-cache-memory", "4MiB", "--no-enable-prefix-caching")
    with serving(model, *flags) as server:
        return asyncio.run(answers_of(server.url))


async def answers_of(url: str) -> list[Asked]:
    flaky = (asks(FLAKY, KEYS, seed=4 + at, begin=(first,)) for at, first in enumerate((faulty.ONCE, faulty.LOSES)))
    asked = [*asks(REQUESTS - 2 * FLAKY, KEYS, seed=3), *chain.from_iterable(flaky)]
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
        told = [(each, await answered(http, each, streams=False)) for each in asked]
    assert {status for _, (status, _, _) in told} == {200}
    return [replace(each, texts=texts) for each, (_, texts, _) in told]


class Soak:
    """A server under load, one after another: some faults end it, and what its disk held is the next one's.

    Attributes:
        server: the one that runs.
        counts: what clients saw, over all episodes.
        resident: bytes of server and engine at rest, after each episode.
    """

    def __init__(self, model: Path, known: list[Asked], directory: Path) -> None:
        self.server: Server
        self.counts: Counter[str] = Counter()
        self.resident: list[int] = []
        self._known = known
        self._words = directory / "stderr"
        keys = (word for key in KEYS for word in ("--api-key", key))
        self._command = ("serve", model, "--port", "0", *FLAGS, "--disk-cache-dir", directory / "kv", *keys)
        self._number = 0
        self.start()

    # ---- the server

    def start(self) -> None:
        """A new server, on the disk that others left."""
        with self._words.open("w") as words:
            process = infergc(*self._command, stderr=words, env=environment(INFERGC_ADMIN_KEY=ADMIN_KEY))
        self.server = Server(process)
        self.server.http.headers["authorization"] = f"Bearer {KEYS[0]}"

    def end(self, number: int, code: int) -> None:
        """End the server by a signal."""
        ended, _ = self.server.stop(number)
        words = self._words.read_text()
        assert ended == code, words
        assert words.count("Traceback") == words.count("the engine begins anew"), words

    @property
    def engine(self) -> psutil.Process:
        """The engine's process; another one looks at grammars."""
        children = psutil.Process(self.server.process.pid).children()
        (engine,) = [child for child in children if "infergc.engine.process" in child.cmdline()]
        return engine

    def health(self, path: str) -> int:
        """What a probe is told."""
        return self.server.http.get(path).status_code

    async def comes_to_pass(self, counter: str) -> None:
        """Wait until a counter moves, while the server is well."""
        before = self.server.metrics()[counter]
        await asyncio.to_thread(wait_for, lambda: self.server.metrics()[counter] > before)
        assert self.health("/health") == 200

    # ---- an episode

    async def episode(self, clients: int, may: frozenset[str], fault: "Fault") -> None:
        """Clients, and in their midst a fault; then everything must be as it was."""
        self._number += 1
        crowd = Clients(self.server.url, self._asked(fault), clients, may | REFUSED, seed=self._number)
        running = asyncio.create_task(crowd.run())
        await asyncio.sleep(SECONDS / 2)
        await fault(self)
        await asyncio.sleep(SECONDS / 2)
        crowd.stop()
        seen = await running
        assert not seen.wrong, seen.wrong[:3]
        self.counts += seen.counts
        await asyncio.to_thread(self.check)

    def _asked(self, fault: "Fault") -> list[Asked]:
        plain, flaky, losing = self._known[: -2 * FLAKY], self._known[-2 * FLAKY : -FLAKY], self._known[-FLAKY:]
        if fault is steps_fail:
            return [*plain, *flaky, *[POISON] * POISONS]
        return [*plain, *losing] if fault is engine_begins_anew else plain

    def check(self) -> None:
        """At rest: the laws hold, nothing is held, nothing leaked, and memory has not grown."""
        for key in KEYS:
            headers = {"authorization": f"Bearer {key}"}
            assert self.server.http.delete(f"/v1/sessions/{SESSION}", headers=headers).status_code in {200, 404}
        self.server.wait_until_idle()
        assert self.server.http.post("/v1/kv/heap/verify", headers=HEADERS).json()["found"] == ""
        figures = self.server.metrics()
        check_scrape(figures)
        assert not any(figures[f"infergc_kv_{defect}_total"] for defect in DEFECTS)
        self.resident.append(self.engine.memory_info().rss + psutil.Process(self.server.process.pid).memory_info().rss)


# ---- what goes wrong


async def nothing(soak: Soak) -> None:
    """A quiet episode: mixed load alone."""


async def crowded(soak: Soak) -> None:
    """Many more than are served: they are refused, and no probe takes it for an illness."""
    for _ in range(10):
        assert await asyncio.to_thread(soak.health, "/health") == 200
        assert await asyncio.to_thread(soak.health, LIVE) == 200
        await asyncio.sleep(0.1)
    assert soak.server.metrics()['infergc_requests_refused_total{reason="queue_full"}'] > 0


async def steps_fail(soak: Soak) -> None:
    """Steps fail for want of memory: requests that are to blame end with an error, all others as ever."""
    await soak.comes_to_pass("infergc_step_failures_total")


async def engine_begins_anew(soak: Soak) -> None:
    """Pages are lost, and with them all that is cached: every request goes on."""
    await soak.comes_to_pass("infergc_engine_resumptions_total")


async def engine_killed(soak: Soak) -> None:
    """kill -9 of the engine: the server starts another."""
    soak.engine.kill()
    await asyncio.to_thread(wait_for, lambda: soak.health("/health") == 503)
    assert soak.health(LIVE) == 200
    await asyncio.to_thread(wait_for, lambda: soak.health("/health") == 200)


async def engine_stopped(soak: Soak) -> None:
    """The engine stands still for a moment, and nobody loses anything."""
    soak.engine.suspend()
    await asyncio.sleep(1)
    soak.engine.resume()


async def drained(soak: Soak) -> None:
    """SIGTERM under load: streams end as they should, and the next server goes on with what is on the disk."""
    await asyncio.to_thread(soak.end, signal.SIGTERM, 0)
    await asyncio.to_thread(soak.start)


async def server_killed(soak: Soak) -> None:
    """kill -9 of everything."""
    engine = soak.engine
    for process in (engine, psutil.Process(soak.server.process.pid)):
        process.suspend()
    os.kill(engine.pid, signal.SIGKILL)
    await asyncio.to_thread(soak.end, signal.SIGKILL, -signal.SIGKILL)
    await asyncio.to_thread(soak.start)


Fault = Callable[[Soak], Awaitable[None]]
EPISODES: tuple[tuple[int, frozenset[str], Fault], ...] = (
    (CLIENTS, frozenset(), nothing),
    (CLIENTS, frozenset(), steps_fail),
    (CLIENTS, frozenset(), engine_begins_anew),
    (CROWD, frozenset(), crowded),
    (CLIENTS, AWAY, engine_killed),
    (CLIENTS, frozenset(), engine_stopped),
    (CLIENTS, AWAY | LEAVING, drained),
    (CLIENTS, AWAY | LEAVING, server_killed),
)


async def soaked(soak: Soak, seconds: float) -> None:
    """Every fault in turn, again and again until the time is over; the first round is always whole."""
    end, rounds = time.monotonic() + seconds, 0
    while not rounds or time.monotonic() < end:
        for clients, may, fault in EPISODES:
            await soak.episode(clients, may, fault)
        rounds += 1
        print(f"round {rounds}: {dict(soak.counts)}; {soak.resident[-1] / MIB:.0f} MiB", flush=True)


# httpx leaves a socket to Python's collector where a client goes in the moment in which it connects: 10 in an hour.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_answers_stay_the_same_and_the_laws_hold(
    model: Path, known: list[Asked], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    soak = Soak(model, known, tmp_path)
    try:
        asyncio.run(soaked(soak, request.config.getoption("--soak")))
        soak.end(signal.SIGTERM, 0)
    finally:
        if soak.server.process.poll() is None:
            soak.server.process.kill()
            soak.server.process.communicate()
    assert soak.counts["told"] > len(known)
    assert soak.counts["queue_full"]
    first = max(soak.resident[: len(EPISODES)])
    assert max(soak.resident) < first + GROWTH, [size // MIB for size in soak.resident]
