"""Random numbers that are the same on every machine and in every Python, and what is drawn with them."""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from itertools import accumulate
from math import log
from random import Random

MICROS = 1_000_000  # in a second: times are whole microseconds, so that no rounding adds up


class Draws:
    """A seeded stream of numbers.

    All are made of ``Random.random``, the only method whose sequence Python promises not to change.

    Args:
        seed: what the stream is told apart by: a name, numbers.
    """

    def __init__(self, *seed: str | int) -> None:
        self._random = Random("/".join(map(str, seed)))  # noqa: S311 - repeatable, not secret

    def share(self) -> float:
        """A number in [0, 1), all alike."""
        return self._random.random()

    def chance(self, probability: float) -> bool:
        """Whether what has this probability happens."""
        return self._random.random() < probability

    def exponential(self, mean: float) -> float:
        """How long to wait for what comes every ``mean`` units on the average, at any time alike."""
        return -mean * log(1.0 - self._random.random())

    def micros(self, seconds: float) -> int:
        """Microseconds to wait for what comes every ``seconds`` on the average."""
        return round(self.exponential(seconds) * MICROS)

    def starts(self, rate: float) -> Iterator[int]:
        """Arrivals of a Poisson process without end, in microseconds; the first is at 0.

        Args:
            rate: arrivals a second.
        """
        now = 0
        while True:
            yield now
            now += self.micros(1 / rate)


class Popularity:
    """Draws one of many by Zipf's law: the one of rank *r* has a weight of *r* to the power -``exponent``.

    Args:
        count: how many there are. The most popular is number 0.
        exponent: 0 for all alike.
    """

    def __init__(self, count: int, exponent: float) -> None:
        self._ends: list[float] = list(accumulate(float(rank + 1) ** -exponent for rank in range(count)))

    def draw(self, draws: Draws, without: Collection[int] = ()) -> int:
        """A number, but none of those given. Cost: O(log count + given log given)."""
        taken = sorted(without)
        at = draws.share() * (self._ends[-1] - sum(self._weight(number) for number in taken))
        for number in taken:
            if at >= self._start(number):
                at += self._weight(number)
        return min(bisect_right(self._ends, at), len(self._ends) - 1)

    def _start(self, number: int) -> float:
        return self._ends[number - 1] if number else 0.0

    def _weight(self, number: int) -> float:
        return self._ends[number] - self._start(number)
