"""Turning microseconds of collector time into work units, and counting the pauses."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple, Protocol

from infergc.engine.price import UnitPrice
from infergc.heap.collector import KINDS, Collector
from infergc.heap.trace import Findings

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


class Pause(NamedTuple):
    """One call of the collector.

    Attributes:
        budget: in work units.
        work: units done.
    """

    budget: int
    work: int


class Rate(Protocol):
    """How many work units a time buys; ``engine.price.UnitPrice`` is the one that learns it."""

    def units(self, micros: float, /) -> int:
        """The budget for so many microseconds, at least 1."""
        ...

    def learn(self, budget: int, work: int, micros: float) -> None:
        """A pause with this budget took so long for so much work."""
        ...


class RecordedRate:
    """The budgets of a recorded run, in order, for a replay. There have to be as many as are asked for."""

    def __init__(self, budgets: Iterable[int]) -> None:
        self._budgets = iter(budgets)

    def units(self, _micros: float, /) -> int:
        """The next of them, whatever the time."""
        return next(self._budgets)

    def learn(self, budget: int, work: int, micros: float) -> None:
        """Of no concern here."""


class Pacer:
    """Runs a collector so that pauses, but for one in a hundred, take no longer than they may.

    Attributes:
        on: whether the collector runs by itself at all.
        step_us, idle_us: microseconds for a pause between two steps, and when nothing runs.
        rate: turns these into budgets; a replay has one of its own.
        pauses: those in which anything was done.
    """

    def __init__(self, collector: Collector, step_us: float, idle_us: float, *, on: bool = True) -> None:
        self.collector = collector
        self.step_us = step_us
        self.idle_us = idle_us
        self.on = on
        self.rate: Rate = UnitPrice()
        self.pauses = Pauses()

    def run(self, *, idle: bool) -> Pause | None:
        """Collect what is due between two steps, or ``idle``, while nothing runs; None if the collector is off."""
        if not self.on:
            return None
        budget = self.rate.units(self.idle_us if idle else self.step_us)
        before = self.collector.counters.units.copy()
        began = perf_counter()
        work = self.collector.collect(budget, idle=idle)
        if work:
            self._ended(perf_counter() - began, budget, work, before)
        return Pause(budget, work)

    def verify(self) -> Findings:
        """See ``Collector.verify``; what was wrong is logged."""
        return _told(self.collector.verify())

    def _ended(self, seconds: float, budget: int, work: int, before: dict[str, int]) -> None:
        """Count a pause in which something was done, and say what was wrong."""
        if self.collector.found:
            _told(self.collector.take_findings())
        units = self.collector.counters.units
        self.pauses.add(seconds, {kind: units[kind] - done for kind, done in before.items()})
        self.rate.learn(budget, work, seconds * 1e6)


def _told(found: Findings) -> Findings:
    if found:
        _log.warning("the heap was mended: %s", found)
    return found
