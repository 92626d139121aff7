"""Requests whose answers are known, and clients who make them at random for as long as a fault is tried."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from samples.servers import PATIENCE

LEAVES = 0.15  # of the requests: the client hangs up at a random moment
LONGEST_PATIENCE = 0.4  # seconds, of those who hang up
BREAK = 0.3  # seconds after a refusal, at most
STEMS = (40, 96, 150)  # tokens that prompts of a tenant begin with
IDS = range(10, 60)  # of prompts; smaller ones mean something to executors of tests
SESSION = "talk"
FIELDS = {"a": {"enum": ["x", "yes"]}, "b": {"type": "boolean"}}
SCHEMA = {"type": "object", "properties": FIELDS, "required": ["a", "b"], "additionalProperties": False}
KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.9, "top_p": 0.9},
    {"n": 3},
    {"n": 2, "use_beam_search": True},
    {"frequency_penalty": 0.5, "logprobs": 2},
    {"echo": True, "logprobs": 1},
    {"max_tokens": 60, "response_format": {"type": "json_schema", "json_schema": {"name": "ab", "schema": SCHEMA}}},
    {"stop": ["e", "a"], "session_id": SESSION},
)


@dataclass(frozen=True)
class Asked:
    """One request: its body but for ``stream``, the key of who asks, and the answer: texts, or an error's code."""

    body: dict[str, Any]
    key: str
    texts: tuple[str, ...] = ()
    code: str = ""


@dataclass
class Seen:
    """What clients saw."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def asks(count: int, keys: tuple[str, ...], seed: int, begin: tuple[int, ...] = ()) -> Iterator[Asked]:
    """So many requests of all kinds, whose answers are yet to be found; all prompts begin with ``begin``."""
    rng = np.random.default_rng(seed)
    stems = [[*begin, *rng.integers(IDS.start, IDS.stop, length).tolist()] for length in STEMS]
    for number in range(count):
        stem = stems[number % len(stems)]
        own = rng.integers(IDS.start, IDS.stop, rng.integers(1, 30)).tolist()
        prompt = [*stem[: rng.integers(1, len(stem) + 1)], *own]
        body = {"prompt": prompt, "max_tokens": int(rng.integers(4, 48)), "seed": number, **KINDS[number % len(KINDS)]}
        yield Asked(body, keys[number % len(keys)])


class Clients:
    """So many clients who make requests of a list, at random, until they are told to stop.

    Args:
        url: of the server.
        known: what is asked, with its answers.
        count: of clients.
        may: codes of refusals that the fault brings; ``gone`` allows a connection to break.
        seed: of what is asked when.
    """

    def __init__(self, url: str, known: list[Asked], count: int, may: frozenset[str], seed: int) -> None:
        self.seen = Seen()
        self._known = known
        self._count = count
        self._may = may
        self._random = random.Random(seed)  # noqa: S311
        self._stopped = asyncio.Event()
        self._http = httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=httpx.Limits(max_connections=None))

    async def run(self) -> Seen:
        """Ask, until ``stop``; what is under way then comes to its end."""
        async with self._http, asyncio.TaskGroup() as clients:
            for _ in range(self._count):
                clients.create_task(self._client())
        return self.seen

    def stop(self) -> None:
        """No more requests."""
        self._stopped.set()

    async def _client(self) -> None:
        while not self._stopped.is_set():
            asked, streams = self._random.choice(self._known), self._random.random() < 0.5
            leaves = self._random.random() < LEAVES
            patience = self._random.uniform(0, LONGEST_PATIENCE) if leaves else None
            try:
                async with asyncio.timeout(patience):
                    outcome = await self._one(asked, streams=streams)
            except TimeoutError:
                outcome = "left"
            self.seen.counts[outcome] += 1
            if outcome not in {"told", "left"}:
                await asyncio.sleep(self._random.uniform(0, BREAK))

    async def _one(self, asked: Asked, *, streams: bool) -> str:
        try:
            status, texts, code = await answered(self._http, asked, streams=streams)
        except httpx.HTTPError as error:
            return self._allowed("gone", f"{type(error).__name__}: {error}")
        if code:
            return code if code == asked.code else self._allowed(code, f"{status}: {code}, asked {asked.body}")
        if asked.code or texts != asked.texts:
            self.seen.wrong.append(f"{asked.body} was answered {texts}, not {asked.texts}")
        return "told"

    def _allowed(self, code: str, what: str) -> str:
        if code not in self._may:
            self.seen.wrong.append(what)
        return code


async def answered(http: httpx.AsyncClient, asked: Asked, *, streams: bool) -> tuple[int, tuple[str, ...], str]:
    """Status, texts, and the code of the error if there was one, in a stream as well."""
    headers = {"authorization": f"Bearer {asked.key}"}
    body = {**asked.body, "stream": streams}
    if not streams:
        answer = await http.post("/v1/completions", json=body, headers=headers)
        told = answer.json()
        if answer.status_code != 200:
            return answer.status_code, (), told["error"]["code"] or "no code"
        return 200, tuple(choice["text"] for choice in told["choices"]), ""
    async with http.stream("POST", "/v1/completions", json=body, headers=headers) as stream:
        if stream.status_code != 200:
            return stream.status_code, (), json.loads(await stream.aread())["error"]["code"] or "no code"
        return 200, *_streamed([line async for line in stream.aiter_lines() if line])


def _streamed(lines: list[str]) -> tuple[tuple[str, ...], str]:
    """The texts of a stream and the code of its error; it must have come to its end."""
    *frames, last = [line.removeprefix("data: ") for line in lines]
    assert last == "[DONE]", f"a stream ended with {last!r}"
    texts: dict[int, str] = {}
    for frame in map(json.loads, frames):
        if "error" in frame:
            return (), frame["error"]["code"] or "no code"
        for choice in frame["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return tuple(texts[index] for index in sorted(texts)), ""
