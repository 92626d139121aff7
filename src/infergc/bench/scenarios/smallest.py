"""The smallest pool that still serves as well as an ample one."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from infergc.bench.scenarios.outcome import Limits, Outcome

THROUGHPUT = 0.98  # of that in an ample pool
PREEMPTED = 0.01  # of the requests

Try = Callable[[int, Limits], Outcome]


@dataclass(frozen=True, slots=True)
class Care:
    """How closely is searched.

    Attributes:
        close: bounds whose ratio is at most this end the search.
        dips: shares of a pool that does which are tried too: few requests are preempted, so chance has a say in it.
    """

    close: float
    dips: tuple[float, ...] = ()


THOROUGH = Care(1.02, (0.95, 0.9, 0.8))
COARSE = Care(1.2)


@dataclass(frozen=True, slots=True)
class Smallest:
    """What was found.

    Attributes:
        pool: bytes.
        outcome: in it.
        runs: that it took.
    """

    pool: int
    outcome: Outcome
    runs: int


class Search:
    """Looks for the smallest pool that holds ``THROUGHPUT`` with at most ``PREEMPTED``: at most ``close`` too large.

    Args:
        run: a workload in a pool of so many bytes, stopped at limits.
        ample: the outcome where memory is no limit.
        least: bytes that the pool must have at least: the longest request's.
        care: how closely is searched.
    """

    def __init__(self, run: Try, ample: Outcome, least: int, care: Care = THOROUGH) -> None:
        self._run = run
        self._care = care
        self._limits = Limits(ample.seconds / THROUGHPUT, PREEMPTED * ample.requests)
        self._least = least
        self._low = least - 1  # no pool of so much or less does
        self._found: Smallest | None = None
        self.runs = 0

    def near(self, guess: int) -> Smallest:
        """Search from where it may be, in steps that double, by bisection, and below.

        Cost: 5 runs if the guess is right.
        """
        pool, step = max(guess, self._low + 1), self._care.close
        rises = not self._holds(pool)
        while (self._found is None) if rises else (self._low < pool):
            pool, step = max(pool + 1, round(pool * step)) if rises else int(pool / step), step * step
            if pool <= self._low:
                break
            self._holds(pool)
        self._between()
        self._below()
        assert self._found is not None, "a pool was found above"
        return Smallest(self._found.pool, self._found.outcome, self.runs)

    def _between(self) -> None:
        assert self._found is not None, "the bounds close in on one that holds"
        while self._found.pool > (self._low + 1) * self._care.close:
            self._holds(round(sqrt(self._low * self._found.pool)))

    def _below(self) -> None:
        """A pool may do though a larger one did not: go on from the smallest that is met so."""
        assert self._found is not None, "there is a pool to look below"
        low, pool = self._low, self._found.pool
        dips = self._care.dips
        while any(self._holds(int(pool * share)) for share in dips if pool * share >= self._least):
            pool = self._found.pool
            low = int(pool * dips[0])  # is tried next, and does not do if this is the last time
        self._low = max(low, self._least - 1)
        self._between()

    def _holds(self, pool: int) -> bool:
        """Try a pool; bounds move."""
        outcome = self._run(pool, self._limits)
        self.runs += 1
        if outcome.whole:
            self._found = Smallest(pool, outcome, self.runs)
        else:
            self._low = pool
        return outcome.whole
