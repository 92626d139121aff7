"""A real model that is offered far more than it serves: who is let in gets their own answer, the others a 429."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from cpu.served import make_served
from infergc.units import MIB
from samples.inspection import ADMIN_KEY, HEADERS
from samples.servers import PATIENCE, Server, serving

SLOTS, QUEUE, LOAD, AT_ONCE = 4, 6, 150, 60
BODY = MIB  # of every fifth request
FLAGS = ("--dtype", "float32", "--kv-cache-memory", "4MiB", "--threads", "1", "--max-body-size", "2MiB",
         "--max-num-seqs", str(SLOTS), "--max-num-queued-reqs", str(QUEUE))  # fmt: skip
JSON = {"content-type": "application/json"}
PROMPTS = ["hello", "the quick brown fox", "jumps", "over the lazy dog", "a b c d e", "once upon a time", "no"]


def body_of(number: int) -> bytes:
    body = {"prompt": PROMPTS[number % len(PROMPTS)], "max_tokens": 40, "temperature": 0, "ignore_eos": True}
    return json.dumps(body if number % 5 else {**body, "user": "x" * BODY}).encode()


def resident(server: Server) -> int:
    """Of the server process alone: its queue stands there."""
    return int(psutil.Process(server.process.pid).memory_info().rss)


async def offered(server: Server, known: dict[int, str]) -> tuple[Counter[int], int]:
    """Answers by status, and the most memory that was seen."""
    seen: Counter[int] = Counter()
    numbers, most = iter(range(LOAD)), [resident(server)]
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, limits=httpx.Limits()) as client:

        async def come_and_go() -> None:
            for number in numbers:
                answer = await client.post("/v1/completions", content=body_of(number), headers=JSON)
                seen[answer.status_code] += 1
                if answer.status_code == 200:
                    assert answer.json()["choices"][0]["text"] == known[number % len(PROMPTS)]
                else:
                    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
                    assert 1 <= int(answer.headers["retry-after"]) <= 60
                most.append(resident(server))

        await asyncio.gather(*(come_and_go() for _ in range(AT_ONCE)))
    return seen, max(most)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


def test_everyone_is_answered_and_memory_is_bounded(model: Path) -> None:
    with serving(model, *FLAGS, INFERGC_ADMIN_KEY=ADMIN_KEY) as server:
        answers = [
            server.http.post("/v1/completions", content=body_of(number), headers=JSON) for number in range(len(PROMPTS))
        ]
        known = {number: answer.json()["choices"][0]["text"] for number, answer in enumerate(answers)}
        before = resident(server)
        seen, most = asyncio.run(offered(server, known))
        print(f"{dict(seen)}, {before / MIB:.1f} MiB before, at most {most / MIB:.1f}")
        assert sum(seen.values()) == LOAD
        assert min(seen.values()) >= SLOTS + QUEUE
        assert len(seen) == 2
        assert most - before < 3 * (SLOTS + QUEUE) * BODY + AT_ONCE * MIB // 8, "three of each body, and connections"
        server.wait_until_idle()
        figures = server.metrics()
        assert figures['infergc_requests_refused_total{reason="queue_full"}'] == seen[429]
        assert figures["infergc_request_queue_time_seconds_count"] == seen[200] + len(PROMPTS)
        assert (figures["infergc_queue_requests"], figures["infergc_queue_reading_requests"]) == (0, 0)
        assert server.http.post("/v1/kv/heap/verify", headers=HEADERS).json()["found"] == ""
