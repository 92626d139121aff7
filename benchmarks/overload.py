"""A server that is offered ten times what it serves: how fast it refuses, what it promised to whom it admits, memory.

    python benchmarks/overload.py [MODEL] [--times 10] [--seconds 60] [--promise 5] [--body 1KiB] [--threads 1]

Three parts. A server is kept full by as many clients as it has slots, which tells the requests it serves a second, and
what the first token takes with nobody before it in the queue. From both and the promise (seconds to the first token,
99 of 100) follows how many may wait. A second server with that ``--max-num-queued-reqs`` is then offered ``--times``
as much, at random moments, by this process alone, whatever comes back. Every tenth request has a body of ``--body``.

Prompts are few and drawn greedily, so what is to be answered to each is known beforehand: an answer that is another's,
or none, is counted. Latencies are those that a client sees, from the first byte sent to the last received.
"""

import argparse
import asyncio
import json
import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from serving import Server, serving

from infergc.units import MIB, format_bytes, parse_bytes

DEMO = Path(__file__).parents[1] / "models" / "demo"
TEXTS = ["Once upon a time", "The old man", "It was a dark night, and", "In the forest there lived", "She said that",
         "Nobody knew why", "The king", "At the end of the road", "My mother told me", "Two friends went"]  # fmt: skip
LARGE = 10  # every so many requests have a large body
BAR = 0.05  # seconds: a refusal takes no longer
USED = 0.7  # of the promise: the rest is for chance


@dataclass
class Answer:
    """What came back of one request; times in seconds from its first byte."""

    status: int
    first: float  # until the first token, or the whole of a refusal
    whole: float
    retry_after: str | None
    name: str | None
    text: str


@dataclass
class Tally:
    """What was seen of a load."""

    refused: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)  # how far behind its moment each request was sent
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)


class Clients:
    """As many connections as are wanted at a time, kept open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def ask(self, body: bytes, name: str) -> Answer:
        """One request, from its first byte."""
        began = perf_counter()
        if self._idle:
            reader, writer = self._idle.popleft()
        else:
            reader, writer = await asyncio.open_connection(self._server.host, self._server.port, limit=MIB)
        writer.write(_head(len(body), name) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        first = perf_counter() - began
        status, fields = _parsed(head.decode())
        chunked = fields.get("transfer-encoding") == "chunked"
        content = await _chunks(reader) if chunked else await reader.readexactly(int(fields["content-length"]))
        self._idle.append((reader, writer))
        text = _told(content) if status == 200 else ""
        whole = perf_counter() - began
        return Answer(status, first, whole, fields.get("retry-after"), fields.get("x-request-id"), text)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for _, writer in self._idle:
            writer.close()


def _head(length: int, name: str) -> bytes:
    lines = ("POST /v1/completions HTTP/1.1", "host: x", "content-type: application/json", f"x-request-id: {name}",
             f"content-length: {length}")  # fmt: skip
    return "\r\n".join((*lines, "", "")).encode()


def _parsed(head: str) -> tuple[int, dict[str, str]]:
    first, *lines = head.strip().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, value in fields.items()}


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    content = b""
    while size := int(await reader.readline(), 16):
        content += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return content


def _told(content: bytes) -> str:
    """The text of a stream; it must have come to its end."""
    *frames, done = [line[6:] for line in content.decode().split("\n\n") if line]
    choices = [choice for frame in frames for choice in json.loads(frame).get("choices", ())]
    is_whole = done == "[DONE]" and bool(choices) and choices[-1]["finish_reason"] == "length"
    return "".join(choice["text"] for choice in choices) if is_whole else ""


def body_of(number: int, tokens: int, size: int) -> bytes:
    """A request for one of the texts; every tenth is of so many bytes, in a field that changes nothing."""
    text = number % len(TEXTS)
    asked = {"prompt": TEXTS[text], "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "seed": text,
             "stream": True}  # fmt: skip
    if number % LARGE == 0:
        asked["user"] = "x" * size
    return json.dumps(asked).encode()


# ---- the parts


async def capacity(server: Server, options: argparse.Namespace) -> tuple[float, float, dict[int, str]]:
    """Requests a second with every slot in use, the 99th percentile to the first token, and what is answered."""
    clients = Clients(server)
    known = {at: (await clients.ask(body_of(at, options.tokens, 0), "known")).text for at in range(len(TEXTS))}
    end, firsts, numbers = perf_counter() + options.seconds / 2, list[float](), iter(range(1, 1 << 30))

    async def client() -> None:
        while perf_counter() < end:
            firsts.append((await clients.ask(body_of(next(numbers), options.tokens, 0), "full")).first)

    began = perf_counter()
    await asyncio.gather(*(client() for _ in range(options.slots)))
    clients.close()
    return len(firsts) / (perf_counter() - began), quantile(firsts, 0.99), known


async def overload(server: Server, rate: float, known: dict[int, str], options: argparse.Namespace) -> Tally:
    """Offer so many requests a second at random moments, and look at all that comes."""
    tally, clients = Tally(), Clients(server)
    draw, bodies = random.Random(1), [body_of(at, options.tokens, options.body) for at in range(len(TEXTS) * LARGE)]  # noqa: S311
    at, number, began = 0.0, 0, perf_counter()
    async with asyncio.TaskGroup() as asked:
        watch = asyncio.create_task(_watch(server, tally))
        while at < options.seconds:
            await asyncio.sleep(max(0.0, began + at - perf_counter()))
            tally.late.append(perf_counter() - began - at)
            body = bodies[number % len(bodies)]
            asked.create_task(_one(clients, body, number, known[number % len(TEXTS)], tally))
            at, number = at + draw.expovariate(rate), number + 1
    watch.cancel()
    clients.close()
    return tally


async def _one(clients: Clients, body: bytes, number: int, expected: str, tally: Tally) -> None:
    answer = await clients.ask(body, f"r{number}")
    tally.statuses[answer.status] += 1
    tally.faults["another's name"] += answer.name != f"r{number}"
    if answer.status == 200:
        tally.firsts.append(answer.first)
        tally.faults["another's text, or none"] += answer.text != expected
    elif answer.status == 429:
        tally.refused.append(answer.whole)
        tally.faults["no Retry-After"] += not (answer.retry_after or "").isdecimal()
    else:
        tally.faults[f"status {answer.status}"] += 1


async def _watch(server: Server, tally: Tally) -> None:
    while True:
        tally.resident.append(server.resident())
        await asyncio.sleep(0.1)


# ---- the report


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else math.nan


def millis(values: list[float]) -> str:
    of = ", ".join(f"p{share * 100:g} {quantile(values, share) * 1e3:.1f}" for share in (0.5, 0.99, 0.999))
    return f"{of}, max {max(values, default=math.nan) * 1e3:.1f} ms"


def report(tally: Tally, before: int, after: int, queued: int, options: argparse.Namespace) -> None:
    over = sum(value > BAR for value in tally.refused)
    print(f"offered {sum(tally.statuses.values())} requests, sent late by {millis(tally.late)}")
    print(f"answers by status: {dict(tally.statuses)}; faults: {dict(+tally.faults) or 0}")
    print(f"429: {millis(tally.refused)}; {over} of {len(tally.refused)} over {BAR * 1e3:g} ms")
    print(f"first token of the admitted: {millis(tally.firsts)}; promised p99 {options.promise * 1e3:g} ms")
    most = format_bytes(max(tally.resident))
    print(
        f"server process: {format_bytes(before)} before, at most {most}, {format_bytes(after)} after; {queued} may wait"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=DEMO)
    parser.add_argument("--times", type=float, default=10.0, help="what is offered over what is served")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--promise", type=float, default=5.0, help="seconds to the first token, 99 of 100")
    parser.add_argument("--body", type=parse_bytes, default=MIB, help="of every tenth request")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1, help="of the engine's kernels: leave cores for the others")
    parser.add_argument("--executor", default="infergc.worker.factory:create_executor", help="as serve's flag")
    options = parser.parse_args()
    flags = ("--max-num-seqs", str(options.slots), "--threads", str(options.threads), "--executor", options.executor)
    with serving(options.model, *flags) as server:
        served, first, known = asyncio.run(capacity(server, options))
    queued = max(0, math.floor(served * (USED * options.promise - first)))
    print(f"serves {served:.2f} requests a second, first token within {first:.2f} s: so {queued} may wait")
    with serving(options.model, *flags, "--max-num-queued-reqs", str(queued)) as server:
        asyncio.run(capacity(server, argparse.Namespace(**{**vars(options), "seconds": 2.0})))
        before = server.resident()
        tally = asyncio.run(overload(server, served * options.times, known, options))
        report(tally, before, server.resident(), queued, options)
        for name in ("infergc_queue_requests", "infergc_queue_reading_requests"):
            print(f"{name} in the end: {server.metric(name):g}")


if __name__ == "__main__":
    main()
