"""Turning microseconds of collector time into work units, and counting the pauses."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from infergc.engine.price import UnitPrice
from infergc.heap.collector import KINDS, Collector

_log = logging.getLogger(__name__)

PAUSE_BOUNDS = (10e-6, 25e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 1e-2)  # seconds


@dataclass(slots=True)
class Pauses:
    """How long the collector held the engine up: a histogram, cumulative in no way.

    Attributes:
        counts: pauses of at most each of ``PAUSE_BOUNDS``, and in the end longer ones.
        seconds: all together.
        longest: of one, in seconds.
        by_kind: all together in seconds by kind of work, each pause divided as its work units are.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(PAUSE_BOUNDS) + 1))
    seconds: float = 0.0
    longest: float = 0.0
    by_kind: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))

    def add(self, seconds: float, units: dict[str, int]) -> None:
        """Count one in which so much was done of each kind."""
        at = next((at for at, bound in enumerate(PAUSE_BOUNDS) if seconds <= bound), len(PAUSE_BOUNDS))
        self.counts[at] += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)
        for kind, work in units.items():
            if work:
                self.by_kind[kind] += seconds * work / sum(units.values())


class Pacer:
    """Runs a collector so that pauses, but for one in a hundred, take no longer than they may.

    Attributes:
        on: whether the collector runs by itself at all.
        step_us, idle_us: microseconds for a pause between two steps, and when nothing runs.
        pauses: those in which anything was done.
    """

    def __init__(self, collector: Collector, step_us: float, idle_us: float, *, on: bool = True) -> None:
        self.collector = collector
        self.step_us = step_us
        self.idle_us = idle_us
        self.on = on
        self.pauses = Pauses()
        self._price = UnitPrice()

    def between_steps(self) -> int:
        """Collect what is due. Returns the budget in units, or 0 if nothing was done: an input of the run (law 10)."""
        return self._run(self.collector.collect, self.step_us) if self.on else 0

    def when_idle(self) -> bool:
        """Collect while nothing runs; False when nothing is left to do."""
        return self.on and self._run(self.collector.idle, self.idle_us) > 0

    def _run(self, collect: Callable[[int], int], micros: float) -> int:
        budget = self._price.units(micros)
        before = self.collector.counters.units.copy()
        began = perf_counter()
        work = collect(budget)
        if not work:
            return 0
        seconds = perf_counter() - began
        if self.collector.found:
            _log.warning("the heap was mended: %s", self.collector.take_findings())
        units = self.collector.counters.units
        self.pauses.add(seconds, {kind: units[kind] - done for kind, done in before.items()})
        self._price.learn(budget, work, seconds * 1e6)
        return budget
