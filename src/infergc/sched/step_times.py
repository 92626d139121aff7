"""What steps take, learnt from those that landed: seconds ≈ a + b·tokens + c·pairs + d·reads.

A pair is a query of a prompt chunk and a key that it sees; a read is a position that a decode sees. They are told
apart because they cost apart: a chunk reads each key once for all of its queries, a decode for one.

Steps of like size share a bin, which keeps their mean; the coefficients are those, none below zero, whose relative
errors over the bins are least. So a thousand decodes do not wash out what one long chunk taught, and a step of a
millisecond counts as much as one of a second.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from infergc.sched.plan import I32

_MEMORY = 16  # steps over which a bin's mean goes back, and after which it has its full weight
_OUTLIER = 4.0  # times a bin's mean is the most that one step may teach: pauses are no property of the work
_STALE = 1024  # steps after which a bin that none was added to counts half; soon after that, hardly at all
_MOST = 128  # bins; the stalest goes
_REFIT = 512  # steps from one fit to the next, where no step of a new kind comes before
_SINGULAR = 1e-9  # relative to what stood on the diagonal
_BETTER = 1 + 1e-9  # a choice of fewer coefficients wins ties, constants before tokens before pairs

Coefficients = tuple[float, float, float, float]
_CHOICES = tuple(chosen for size in (1, 2, 3, 4) for chosen in combinations(range(4), size))


@dataclass(slots=True)
class _Bin:
    """The mean of the latest steps of a kind."""

    tokens: float = 0.0
    pairs: float = 0.0
    reads: float = 0.0
    seconds: float = 0.0
    seen: int = 0
    latest: int = 0  # of the steps learnt

    def add(self, tokens: int, pairs: int, reads: int, seconds: float) -> None:
        if self.seen:
            seconds = min(seconds, _OUTLIER * self.seconds)
        self.seen += self.seen < _MEMORY
        share = 1.0 / self.seen
        self.tokens += share * (tokens - self.tokens)
        self.pairs += share * (pairs - self.pairs)
        self.reads += share * (reads - self.reads)
        self.seconds += share * (seconds - self.seconds)


class StepTimes:
    """Learns from every landed step. No clock: seconds come from outcomes, which are inputs of a run (law 10).

    Attributes:
        coefficients: seconds of any step, of a token, of a chunk's pair, of a decode's read.
        most: tokens of the largest step so far: beyond twice as many, nothing is known.
    """

    def __init__(self) -> None:
        self.coefficients: Coefficients = (0.0, 0.0, 0.0, 0.0)
        self.most = 0
        self._bins: dict[tuple[int, int, int], _Bin] = {}
        self._learnt = 0

    @property
    def known(self) -> bool:
        """Whether any step has taught what steps take."""
        return self._learnt > 0

    def landed(self, starts: I32, counts: I32, seconds: float) -> None:
        """A step computed positions start … start + count - 1 of each row in so long. Cost: O(rows), as ``learn``."""
        tokens, rows = int(np.add.reduce(counts)), len(counts)
        pairs, reads = 0, int(np.add.reduce(starts)) + rows
        if tokens > rows:
            for row in (counts > 1).nonzero()[0].tolist():
                start, count = int(starts[row]), int(counts[row])
                pairs += count * start + count * (count + 1) // 2
                reads -= start + 1
        self.learn(tokens, pairs, seconds, reads)

    def learn(self, tokens: int, pairs: int, seconds: float, reads: int = 0) -> None:
        """A step of so many tokens, pairs and reads took so long; one of no time teaches nothing.

        Cost: O(1), and O(bins) every 512 steps and for the first of a kind. A bin is a power of two of tokens, and of
        four of pairs a token and of reads: some dozens in use, 128 at most.
        """
        if seconds <= 0.0 or tokens <= 0:
            return
        kind = (tokens.bit_length(), (pairs // tokens).bit_length() // 2, reads.bit_length() // 2)
        found = self._bins.get(kind)
        is_new = found is None
        if found is None:
            found = self._bins[kind] = _Bin()
        self._learnt += 1
        self.most = max(self.most, tokens)
        found.latest = self._learnt
        found.add(tokens, pairs, reads, seconds)
        if len(self._bins) > _MOST:
            del self._bins[min(self._bins, key=lambda kind: self._bins[kind].latest)]
        if is_new or self._learnt % _REFIT == 0:
            self._fit()

    def prefill(self, start: int, end: int) -> float:
        """Seconds that computing positions start … end - 1 of a sequence adds to a step; 0.0 while nothing is known."""
        _, token, pair, _ = self.coefficients
        count = end - start
        return count * (token + pair * (start + (count + 1) * 0.5))

    def _fit(self) -> None:
        """Least squares of relative errors; of all choices of coefficients above zero the best one."""
        products, sums = _normal_equations(self._bins.values(), self._learnt)
        best = 0.0
        for chosen in _CHOICES:
            found = _solve(products, sums, chosen)
            explained = 0.0 if found is None else sum(x * y for x, y in zip(found, sums, strict=True))
            if found is not None and explained > best * _BETTER:
                best, self.coefficients = explained, found


def _normal_equations(bins: Iterable[_Bin], now: int) -> tuple[list[list[float]], list[float]]:
    """Of Σ weight · (coefficients · row - 1)², a row being a bin's work in terms of its seconds."""
    products, sums = [[0.0] * 4 for _ in range(4)], [0.0] * 4
    for each in bins:
        weight, scale = each.seen / (1 + ((now - each.latest) / _STALE) ** 2), 1.0 / each.seconds
        row = (scale, each.tokens * scale, each.pairs * scale, each.reads * scale)
        for i, value in enumerate(row):
            value *= weight  # noqa: PLW2901 - once for the whole row
            sums[i] += value
            line = products[i]
            for j in range(i, 4):
                line[j] += value * row[j]
    for i, j in combinations(range(4), 2):
        products[j][i] = products[i][j]
    return products, sums


def _solve(products: list[list[float]], sums: list[float], chosen: tuple[int, ...]) -> Coefficients | None:
    """The best coefficients with all but the chosen ones zero; None if one is below zero or nothing decides them."""
    rows = [[products[i][j] for j in chosen] + [sums[i]] for i in chosen]
    for at, row in enumerate(rows):
        if row[at] <= _SINGULAR * products[chosen[at]][chosen[at]]:  # what those before have left of it
            return None
        for other in rows:
            if other is not row:
                factor = other[at] / row[at]
                other[:] = [value - factor * mine for value, mine in zip(other, row, strict=True)]
    found = [0.0] * 4
    for at, (row, index) in enumerate(zip(rows, chosen, strict=True)):
        found[index] = row[-1] / row[at]
    return (found[0], found[1], found[2], found[3]) if min(found) >= 0.0 else None
