"""Agents' recorded conversations against a running server whose device holds a tenth of their KV: tiers on and off.

    python benchmarks/tiers.py MODEL TRACE [--sessions 40] [--turns 4] [--rounds 3] [--json FILE]
    python benchmarks/tiers.py MODEL --cold 12 [--json FILE]

TRACE is a file of ``conversations.py``. Its sessions run at the same time; each turn sends the conversation so far, as
recorded, and streams an answer as long as the recorded one (``--answer`` tokens at most, greedy, end tokens ignored).
Between turns a session thinks: as recorded, times ``--gaps``, where there were times; else drawn with mean ``--think``,
the same in every way. Ways: ``off``, no tiers; ``host``; ``disk``: a host tier of ``--host-with-disk`` and a disk; and
``restart``: another server on the files that ``disk`` left when it was killed. Every round is all of them in turn, each
a server of its own, every second round the other way round. Latencies are what the client sees; ratios are of each
request to the same one of ``off`` in its round.

``--cold N``: instead, N rounds of prompts that nobody asked before, to a server without tiers and to one with both,
side by side: blocks in turns, prompt by prompt the same, each block when the other server is idle.
"""

import argparse
import asyncio
import hashlib
import json
import math
import os
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import httpx
import torch
from conversations import Turn, read_conversations
from serving import Server, serving

from infergc.bench.json_file import write_json
from infergc.models.hf_config import checkpoint_dtype, model_spec, read_config
from infergc.models.spec import ModelSpec
from infergc.text.tokenizer import Tokenizer
from infergc.units import MIB, ceil_div, format_bytes

PAGE = 16
WAYS = ("off", "host", "disk", "restart")
FIGURES = {  # of the report → metric
    "demoted": 'infergc_kv_transfer_pages_total{reason="demoted"',
    "promoted": 'infergc_kv_transfer_pages_total{reason="promoted"',
    "written": 'infergc_kv_transfer_pages_total{reason="written"',
    "read": 'infergc_kv_transfer_pages_total{reason="read"',
    "copied bytes": "infergc_kv_copied_bytes_total",
    "copy seconds": "infergc_kv_copy_seconds_total",
    "runs": "infergc_kv_transfer_runs_total",
    "bytes read": "infergc_disk_cache_read_bytes_total",
    "read seconds": "infergc_disk_cache_read_seconds_total",
    "preempted": "infergc_preemptions_total",
    "steps": "infergc_steps_total",
}


@dataclass(slots=True)
class Answer:
    """What a client saw of a request; times in seconds."""

    first: float
    whole: float
    text: str
    tokens: int
    prompt: int
    cached: int


@dataclass(slots=True)
class Run:
    """One way in one round: answers by session and turn, and what the server counted."""

    seconds: float
    answers: dict[str, Answer]
    counted: dict[str, float] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Tokens of output a second."""
        return sum(each.tokens for each in self.answers.values()) / self.seconds


async def ask(client: httpx.AsyncClient, prompt: str | list[int], tokens: int) -> Answer:
    """One streamed request."""
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}}  # fmt: skip
    began, first, text, usage = perf_counter(), math.nan, "", {}
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if chunk["choices"] and math.isnan(first):
                first = perf_counter() - began
            text += "".join(choice["text"] for choice in chunk["choices"])
            usage = chunk.get("usage") or usage
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    whole = perf_counter() - began
    return Answer(first, whole, text, usage["completion_tokens"], usage["prompt_tokens"], cached)


def connected(server: Server) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=server.url, timeout=None, limits=limits)  # noqa: S113 - a queue may be long


# ---- conversations


async def replay(server: Server, sessions: list[list[Turn]], options: argparse.Namespace) -> Run:
    """All conversations at once."""
    async with connected(server) as client:
        await ask(client, "warm up", 8)
        answers: dict[str, Answer] = {}
        began = perf_counter()

        async def session(number: int) -> None:
            draw = random.Random(number)  # noqa: S311
            await asyncio.sleep(draw.uniform(0.0, options.spread))
            for at, turn in enumerate(sessions[number]):
                gap = draw.expovariate(1 / options.think) if turn.gap is None else turn.gap * options.gaps
                await asyncio.sleep(gap if at else 0.0)
                answers[f"{number}.{at}"] = await ask(client, turn.prompt, min(turn.answer, options.answer))

        await asyncio.gather(*map(session, range(len(sessions))))
        seconds, counted = perf_counter() - began, {name: server.metric(of) for name, of in FIGURES.items()}
        return Run(seconds, answers, {**counted, "processor seconds": server.processor_seconds()})


def working_set(sessions: list[list[Turn]]) -> int:
    """Pages of different prefixes in all prompts."""
    seen: set[bytes] = set()
    for turn in (turn for session in sessions for turn in session):
        chain = hashlib.blake2b(digest_size=16)
        for low in range(0, len(turn.tokens) - PAGE + 1, PAGE):
            chain.update(repr(turn.tokens[low : low + PAGE]).encode())
            seen.add(chain.digest())
    return len(seen)


def load_spec(model: Path) -> ModelSpec:
    config = read_config(model)
    return model_spec(config, checkpoint_dtype(config) or torch.float32)


def page_bytes(spec: ModelSpec) -> int:
    """Of one page over all layers."""
    return 2 * PAGE * spec.num_layers * spec.kv_width * spec.dtype.itemsize


def warm(options: argparse.Namespace) -> None:
    """Rounds of all ways, and their report."""
    found = read_conversations(options.trace, Tokenizer.load(options.model), options.longest)
    sessions = [turns[: options.turns] for turns, _ in zip(found, range(options.sessions), strict=False)]
    pages, each = working_set(sessions), page_bytes(load_spec(options.model))
    longest = max(len(turn.tokens) for session in sessions for turn in session) + options.answer
    pool = max(math.floor(options.pool * pages), ceil_div(longest, PAGE) + 2)
    sizes = {"device": pool, "host": math.ceil(options.host * pages), "disk": math.ceil(options.host_with_disk * pages)}
    print(f"{len(sessions)} sessions, {sum(map(len, sessions))} turns, {pages} pages of {format_bytes(each)}; "
          f"device {pool / pages:.1%} "
          f"of them, host {options.host:.0%}, beside a disk {options.host_with_disk:.0%}")  # fmt: skip
    memory = {name: str(count * each) for name, count in sizes.items()}
    runs: dict[str, list[Run]] = {way: [] for way in options.ways}
    for number in range(options.rounds):
        print(f"round {number + 1}: {load_line()}", flush=True)
        with TemporaryDirectory(dir=options.directory) as directory:
            for way, run in one_round(sessions, memory, directory, options, backwards=bool(number % 2)):
                runs[way].append(run)
                print(f"  {way}: {run.seconds:.1f} s, {load_line()}", flush=True)
    report(runs)
    if options.json is not None:
        write_json(options.json, {way: [asdict(run) for run in of] for way, of in runs.items()})


def one_round(
    sessions: list[list[Turn]], memory: dict[str, str], directory: str, options: argparse.Namespace, *, backwards: bool
) -> Iterator[tuple[str, Run]]:
    device = ("--kv-cache-memory", memory["device"], *options.flag)
    disk = ("--disk-cache-dir", directory, "--host-cache-memory", memory["disk"])
    flags = {"off": (), "host": ("--host-cache-memory", memory["host"]), "disk": disk, "restart": disk}
    order = ("disk", "restart", "host", "off") if backwards else WAYS
    for way in (way for way in order if way in options.ways):
        with serving(options.model, *device, *flags[way]) as server:
            yield way, asyncio.run(replay(server, sessions, options))
            if way == "disk":
                server.kill()


# ---- nothing to hit


def cold(options: argparse.Namespace) -> None:
    """Blocks of prompts that nobody asked before, to two servers in turns."""
    spec = load_spec(options.model)
    pool = str(3 * ceil_div(options.length + options.answer, PAGE) * page_bytes(spec))
    with TemporaryDirectory(dir=options.directory) as directory:
        tiers = ("--host-cache-memory", str(64 * MIB), "--disk-cache-dir", directory)
        device = ("--kv-cache-memory", pool, *options.flag)
        with serving(options.model, *device) as off, serving(options.model, *device, *tiers) as on:
            ratios = asyncio.run(_cold_rounds(off, on, spec.vocab_size, options))
            moved = {name: on.metric(of) for name, of in FIGURES.items()}
    print(
        f"time to first token, tiers on over off, of {len(ratios)} prompts of {options.length} tokens: {spread(ratios)}"
    )
    blocks = [median(ratios[low : low + options.block]) for low in range(0, len(ratios), options.block)]
    print(f"median of each block: {spread(blocks)}; counted: {moved}; {load_line()}")
    if options.json is not None:
        write_json(options.json, {"ratios": ratios, "counted": moved})


async def _cold_rounds(off: Server, on: Server, vocabulary: int, options: argparse.Namespace) -> list[float]:
    draw, ratios = random.Random(0), list[float]()  # noqa: S311
    for number in range(-1, options.cold):  # the first warms up
        prompts = [[draw.randrange(3, vocabulary) for _ in range(options.length)] for _ in range(options.block)]
        firsts: dict[str, list[float]] = {}
        for server in (off, on)[:: 1 if number % 2 else -1]:
            firsts[server.url] = [answer.first async for answer in _one_by_one(server, prompts, options.answer)]
            while server.metric("infergc_disk_cache_writing_pages"):
                await asyncio.sleep(0.05)
        if number >= 0:
            ratios += [mine / theirs for mine, theirs in zip(firsts[on.url], firsts[off.url], strict=True)]
    return ratios


async def _one_by_one(server: Server, prompts: list[list[int]], tokens: int) -> AsyncIterator[Answer]:
    async with connected(server) as client:
        for prompt in prompts:
            yield await ask(client, prompt, tokens)


# ---- the report


def quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def spread(values: list[float]) -> str:
    return f"{median(values):.3f} (p10 {quantile(values, 0.1):.3f}, p90 {quantile(values, 0.9):.3f})"


def load_line() -> str:
    return "load of the machine " + " ".join(f"{value:.1f}" for value in os.getloadavg()[:2])


def report(runs: dict[str, list[Run]]) -> None:
    """Figures of each way over all rounds, and of each request beside the same one of ``off``."""
    for way, rounds in runs.items():
        answers = [answer for run in rounds for answer in run.answers.values()]
        ratios = [
            run.answers[name].first / off.answers[name].first
            for run, off in zip(rounds, next(iter(runs.values())), strict=True) for name in off.answers
        ]  # fmt: skip
        speeds = [run.speed / off.speed for run, off in zip(rounds, next(iter(runs.values())), strict=True)]
        firsts = "/".join(f"{quantile((each.first for each in answers), share):.3f}" for share in (0.5, 0.9, 0.99))
        cached = sum(each.cached for each in answers) / sum(each.prompt for each in answers)
        print(f"{way:8} TTFT p50/p90/p99 {firsts} s; over off, request by request {spread(ratios)}; "
              f"{median(run.speed for run in rounds):.1f} tokens/s, {median(speeds):.2f} of off; "
              f"{median(run.seconds for run in rounds):.1f} s; cached {cached:.1%}")  # fmt: skip
        counted = {name: median(run.counted[name] for run in rounds) for name in rounds[0].counted}
        print(f"{'':8} {', '.join(f'{name} {value:.4g}' for name, value in counted.items() if value)}")
    wrong = sum(
        run.answers[name].text != off.answers[name].text
        for of in runs.values() for run, off in zip(of, next(iter(runs.values())), strict=True) for name in off.answers
    )  # fmt: skip
    print(f"texts that differ from those of off: {wrong}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("trace", nargs="?", type=Path)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--turns", type=int, default=4, help="of a session, at most")
    parser.add_argument("--longest", type=int, default=3600, help="tokens of a prompt")
    parser.add_argument("--answer", type=int, default=32, help="tokens of an answer, at most")
    parser.add_argument("--think", type=float, default=4.0, help="seconds between turns where none were recorded")
    parser.add_argument("--gaps", type=float, default=1.0, help="times recorded seconds between turns")
    parser.add_argument("--spread", type=float, default=8.0, help="seconds within which sessions begin")
    parser.add_argument("--pool", type=float, default=0.1, help="of the working set; the longest text at least")
    parser.add_argument("--host", type=float, default=1.0, help="of the working set, without a disk")
    parser.add_argument("--host-with-disk", type=float, default=0.25, help="of the working set, above a disk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", type=lambda text: text.split(","), default=WAYS, help="of them; beside the first")
    parser.add_argument("--cold", type=int, default=0, metavar="ROUNDS", help="prompts with nothing to hit instead")
    parser.add_argument("--block", type=int, default=8, help="cold prompts before the other server's turn")
    parser.add_argument("--length", type=int, default=512, help="tokens of a cold prompt")
    parser.add_argument("--directory", type=Path, help="where the disk tier's files go; default: the system's own")
    parser.add_argument("--flag", action="append", default=[], help="of every server, as --flag=--threads=1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.cold:
        cold(options)
    elif options.trace is not None:
        warm(options)
    else:
        parser.error("give a TRACE, or --cold ROUNDS")


if __name__ == "__main__":
    main()
