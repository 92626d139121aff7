"""A subject: an engine in this process that is examined, through the same heap, scheduler and steps as a server's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Self

from infergc.config import EngineConfig
from infergc.engine.assembly import around, assemble
from infergc.engine.loop import Engine
from infergc.engine.messages import Delta, Submit
from infergc.engine.ports import Executor
from infergc.engine.scripts import Script

_FORCE = "infergc.worker.forced"  # behind the torch line, so it is found by name


@dataclass(slots=True)
class Answer:
    """What came of one request.

    Attributes:
        tokens: generated; an end token is among them.
        cached: tokens of the prompt that were found in the prefix cache.
        preemptions: how often it gave way.
    """

    tokens: list[int] = field(default_factory=list)
    cached: int = 0
    preemptions: int = 0

    def add(self, delta: Delta) -> None:
        """Take news of it.

        Raises:
            RuntimeError: the engine gave it up.
        """
        if delta.finish not in {"", "stop", "length"}:
            raise RuntimeError(f"a request ended with {delta.finish!r}: {delta.error}")
        self.tokens += delta.tokens
        self.cached = max(self.cached, delta.cached_tokens)
        self.preemptions = max(self.preemptions, delta.preemptions)


class Subject:
    """An engine to examine. ``close``, or a ``with`` block, frees its memory.

    Args:
        config: of the engine.
        forced: whether it takes scripts; only executors that run a model do.

    Attributes:
        ready: what it serves and holds.
        script: by the seeds of requests, the texts that they are made to write.
        most_held: bytes of KV that requests held at most, in the last run: pages, whole, as they are allocated.

    Raises:
        ConfigError: a setting does not suit the model or the memory, or the executor follows no script.
        OSError, ValueError: the model cannot be loaded.
    """

    def __init__(self, config: EngineConfig, *, forced: bool) -> None:
        self.script: Script = {}

        def make(executor: Executor) -> Engine:
            if forced:
                self.script = import_module(_FORCE).force(executor)
            return assemble(config, executor)

        self._engine = around(config, make)
        self._engine.tells_stats = False
        self.ready = self._engine.ready
        self.most_held = 0

    @property
    def kv(self) -> dict[str, Any]:
        """How its KV is laid out: bytes a token by layer group, scales and all that lies in pages counted."""
        groups = self._engine.heap.config.groups
        return {
            "capacity_tokens": self.ready.kv_capacity_tokens,
            "bytes": self.ready.memory["kv"],
            "page_tokens": self.ready.page_tokens,
            "bytes_per_token": sum(group.page_bytes for group in groups) / self.ready.page_tokens,
        }

    def run(self, requests: Sequence[Submit], ended: Callable[[str, Answer], None] = lambda *_: None) -> list[Answer]:
        """Run requests together until all have ended.

        Args:
            requests: with ids that differ.
            ended: told of each request that ends.

        Raises:
            RuntimeError: the engine refused one or gave it up.
        """
        answers = {request.request_id: Answer() for request in requests}
        self.most_held = 0
        news = self._engine.step(requests).news()
        while True:
            for delta in news:
                answers[delta.request_id].add(delta)
                if delta.finish:
                    ended(delta.request_id, answers[delta.request_id])
            self.most_held = max(self.most_held, self._held())
            if not self._engine.has_work():
                return list(answers.values())
            news = self._engine.step().news()

    def _held(self) -> int:
        groups = zip(self._engine.heap.stats(), self._engine.heap.config.groups, strict=True)
        return sum((stats.live + stats.in_transit) * group.page_bytes for stats, group in groups)

    def close(self) -> None:
        """Free what the engine holds."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
