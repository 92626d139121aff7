"""What an engine does for itself when no request waits for it: Python's full collections, and looks at the tensors."""

import time
from collections.abc import Callable

from infergc.engine.census import TensorNews
from infergc.engine.footprint import ProcessGauge
from infergc.engine.garbage import PythonGarbage, garbage_figures
from infergc.engine.messages import Outputs
from infergc.engine.resuming import AnyEngine

_GAP_SECONDS = 0.05  # without a request for so long, the engine is idle: a client that waits asks again sooner
_NEWS_SECONDS = 0.01  # between two looks for news of the disk
_REST_SECONDS = 1.0  # between two times, so that requests far apart do not all pay


class Upkeep:
    """Runs once in a gap that follows steps; an engine that rested all the time has nothing new to find.

    Args:
        engine: whose gaps these are. It is looked at once now: its tensors are those of the model.
        garbage: Python's.
        now: seconds that never go back.
    """

    def __init__(self, engine: AnyEngine, garbage: PythonGarbage, now: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._garbage = garbage
        self._now = now
        self._gauge = ProcessGauge()
        self._tensors = TensorNews()
        self._steps = engine.counters.steps  # at the latest time
        self._rest_until = self._due = now()
        self._resumptions = engine.counters.resumptions
        self._seen = self._steps  # when ``_due`` was set
        self._tensors.take(engine.census())

    def patience(self) -> float | None:
        """Seconds to wait for a command before ``run``; None: until there is one."""
        if self._engine.has_work():
            return 0.0
        gap = self._gap()
        if self._engine.awaits_news():
            return _NEWS_SECONDS if gap is None else min(_NEWS_SECONDS, gap)
        return gap

    def _gap(self) -> float | None:
        """Seconds until it is time to tidy up, if no command comes; None: there is nothing new to find."""
        if self._engine.counters.steps == self._steps:
            return None
        now = self._now()
        if self._engine.counters.steps == self._seen:  # a question came meanwhile; it puts nothing off
            return max(0.0, self._due - now)
        wait = max(_GAP_SECONDS, self._rest_until - now)
        self._seen, self._due = self._engine.counters.steps, now + wait
        return wait

    def run(self, *, waiting: bool) -> None:
        """Use the time before the next step; there is hardly any if requests run or commands are ``waiting``."""
        if self._engine.has_work():
            self._garbage.relieve()
        elif self._engine.counters.steps == self._steps:
            self._garbage.rested()
        elif self._is_due() or not (waiting or self._engine.awaits_news()):  # whose news does not wait for a gap
            self._tidy()

    def measured(self, outputs: Outputs) -> Outputs:
        """The counters with figures of the process beside them; those of an idle engine stand for long."""
        if outputs.stats is not None:
            outputs.stats["process"] = self._gauge.latest(afresh=not self._engine.has_work())
            outputs.stats["python_gc"] = garbage_figures(self._garbage)
            outputs.stats["tensors"] = self._tensors.figures
        return outputs

    def _is_due(self) -> bool:
        return self._seen == self._engine.counters.steps and self._now() >= self._due

    def _tidy(self) -> None:
        """Collect between two looks: tensors of the first that are gone at the second were held by cycles alone."""
        self._steps = self._engine.counters.steps
        self._tensors.take(self._engine.census())
        if self._engine.counters.resumptions != self._resumptions:
            self._resumptions = self._engine.counters.resumptions
            self._garbage.thaw()
        self._garbage.collect()
        self._tensors.take(self._engine.census())
        self._rest_until = self._now() + _REST_SECONDS
