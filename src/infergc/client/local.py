"""LocalClient: an engine in this very process and thread, driven by whoever waits for its output."""

from collections.abc import Generator, Iterable
from typing import Any

from infergc.client.interrupts import held_interrupts
from infergc.client.prepare import RequestBuilder
from infergc.config import EngineConfig
from infergc.engine.garbage import PythonGarbage, garbage_figures
from infergc.engine.messages import Abort, Command, Delta, Submit, choice_names
from infergc.engine.ports import Sink
from infergc.engine.resuming import build_resuming_engine
from infergc.engine.ticks import Ticks


class LocalClient:
    """Speaks the messages of an engine process without a process. Not safe to use from several threads.

    The process is the user's. So nothing of it is frozen and no tensors are watched; full collections of Python's
    are put off while a run goes on, and after it Python's own rule decides again.

    Args:
        config: of the engine.
        sinks: hear of every step.

    Attributes:
        ready: what the engine serves and holds in memory.
        stats: the engine's latest counters and gauges.

    Raises:
        ValueError, OSError, RuntimeError: the engine cannot be built; the message says why.
    """

    def __init__(self, config: EngineConfig, sinks: Iterable[Sink] = ()) -> None:
        self._engine = build_resuming_engine(config, sinks)
        self.ready = self._engine.ready
        self.stats: dict[str, Any] = {}
        self.builder = RequestBuilder(self.ready, config.seed)
        self._garbage = PythonGarbage(self.ready.memory)
        self._ticks = Ticks()
        self._commands: list[Command] = []
        self._busy = False

    def run(self, requests: Iterable[Submit]) -> Generator[list[Delta]]:
        """Start requests and give their news step by step until all have finished.

        What has not finished when the iterator is closed is aborted.

        Raises:
            RuntimeError: another run is not over yet.
            ValueError: two requests have the same id.
        """
        if self._busy:
            raise RuntimeError("another generation is not over: read it to its end or close it first")
        started = list(requests)
        names = [name for one in started for name in choice_names(one.request_id, one.params.n)]
        unfinished = set(names)
        if len(unfinished) < len(names):
            raise ValueError("request_id: the requests' ids must differ")
        self._busy = True
        self._commands += started
        with self._garbage:
            try:
                while unfinished:
                    news = self._step()
                    unfinished.difference_update(delta.request_id for delta in news if delta.finish)
                    if news:
                        yield news
            finally:
                self._busy = False
                self._abandon(unfinished)

    def abort(self, request_id: str) -> None:
        """Abandon a request of the current run, or one of its choices, by name; its last news has finish "abort"."""
        self._commands.append(Abort(request_id))

    def stop(self, request_id: str) -> None:
        """Finish one whose text a stop string ended, by name; its last news has finish "stop"."""
        self._commands.append(Abort(request_id, stopped=True))

    def close(self) -> None:
        """Free what the engine holds, and leave Python's collector as it was. Harmless when repeated."""
        self._garbage.release()
        self._engine.close()

    def _abandon(self, unfinished: set[str]) -> None:
        for request_id in sorted(unfinished):
            self.abort(request_id)
        while self._commands or self._engine.has_work():
            self._step()

    def _step(self) -> list[Delta]:
        commands, self._commands = self._commands, []
        with held_interrupts():
            outputs = self._engine.step([*self._ticks.take(), *commands])
        self._garbage.relieve()
        if outputs.stats is not None:
            self.stats = {**outputs.stats, "python_gc": garbage_figures(self._garbage)}
        return outputs.news()
