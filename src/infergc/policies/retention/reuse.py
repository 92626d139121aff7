"""How soon prefixes come again, learnt from all that were asked for, cached or not: what a page is worth, and when.

A page of age a is worth the hits it can be expected to give for the room it takes until then: the greatest of
(F(t) - F(a)) / (I(t) - I(a)) over t > a, where F(t) is the share of pages that came again by age t and I(t) the time
that a page waits by then on the average: the slope of the curve's upper hull. Among pages whose chances
differ, keeping those of the greatest slope is what gives the most hits (the index of Gittins, "Bandit processes and
dynamic allocation indices", 1979; hit density in Beckmann, Chen and Cidon, "LHD", NSDI 2018, which estimates it from
what it keeps; here what is not kept counts too, so nothing need be kept to find out).

Time is counted in pages asked for, as a collector counts in bytes allocated: so it means the same on a fast device and
a slow one, and a pool's size is an age.
"""

from bisect import bisect_right
from math import log2

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_AN_OCTAVE = 2  # ages told apart between one and its double
_FIRST, _LAST = 2.0**-8, 2.0**7  # in pools: what is younger, or older, is of one age
_GUESS = 0.1  # the chance to come again within a pool of pages, about, of what never did
_STRETCHES = 128  # of time that are told apart


class Reuse:
    """Counts, by class of page and by age, how many came again, and how many could have.

    Args:
        classes: of pages whose chances differ.
        scale: an age, in pages asked for: where nothing is known yet, the chance to come again falls beyond it.
        trust: how many pages the guess from before anything is known counts for.
        memory: pages asked for after which what was counted counts half.
    """

    def __init__(self, classes: int, scale: int, trust: float, memory: int) -> None:
        bounds = scale * _FIRST * 2 ** (np.arange(_AN_OCTAVE * log2(_LAST / _FIRST) + 1) / _AN_OCTAVE)
        self._bounds: list[float] = bounds.tolist()  # where each age but the first begins
        self._widths: F64 = np.diff(np.array([0.0, *bounds, 2 * bounds[-1]]))
        self._middles: F64 = np.array([0.0, *bounds]) + self._widths / 2
        self._again = np.zeros((classes, len(self._middles)))
        self._since: list[int] = [0]  # times at which pages were counted
        self._born: list[F64] = [np.zeros(classes)]  # and how many had begun to wait by then, by class
        self._scale, self._trust, self._memory = scale, trust, memory
        self._halve_at = memory
        self._worth: list[list[float]] = []
        self.learn(0)

    def began(self, classes: NDArray[np.int64], new: int = 0) -> None:
        """Pages of these classes, and so many of class 0, wait from now on to come again. Cost: O(pages) array work."""
        born = self._born[-1]
        born[0] += new
        if len(classes):
            born += np.bincount(classes, minlength=len(born))

    def came_again(self, classes: NDArray[np.int64], ages: NDArray[np.int64]) -> None:
        """Pages of these classes came again, so old. Cost: O(pages) array work."""
        if not len(ages):
            return
        buckets = np.searchsorted(self._bounds, ages, "right")
        flat = np.bincount(classes * len(self._middles) + buckets, minlength=self._again.size)
        self._again += flat.reshape(self._again.shape)

    def worth(self, page_class: int, age: float) -> float:
        """What a page is worth: hits for each page of room and unit of time. Cost: O(log ages)."""
        return self._worth[page_class][bisect_right(self._bounds, age)]

    def learn(self, now: int) -> None:
        """Work out anew what pages are worth. Cost: array work over classes and ages, about a millisecond."""
        waited, gave = np.zeros(self._again.shape), np.zeros(self._again.shape)
        time, hits, left = (np.zeros(len(self._again)) for _ in range(3))
        left += 1
        for age, chance in enumerate(self._chances(now).T):
            waited[:, age], gave[:, age] = time, hits
            hits = hits + left * chance
            time = time + left * self._widths[age] * (1 - chance / 2)
            left = left * (1 - chance)
        self._worth = _slopes(np.c_[waited, time], np.c_[gave, hits]).tolist()
        self._go_on(now)

    def _chances(self, now: int) -> F64:
        """The chance to come again at each age, of a page that did not before: [classes, ages]."""
        chances = self._guesses()
        left = np.ones(len(self._again))
        for age, middle in enumerate(self._middles):
            could = left * self._born_by(now - middle)
            counted = np.minimum(self._again[:, age], could)
            chances[:, age] = (counted + chances[:, age] * self._trust) / (could + self._trust)
            left = left * (1 - chances[:, age])
        return chances

    def _guesses(self) -> F64:
        """What is said of pages of which nothing is known: the older the less likely, the more often used the more."""
        often = np.arange(1, len(self._again) + 1)[:, None]
        guess: F64 = -np.expm1(-_GUESS * often * self._widths / (self._middles + self._scale))
        return guess

    def _born_by(self, time: float) -> F64:
        """How many pages of each class had begun to wait by then."""
        if time <= self._since[0]:
            return np.zeros(len(self._again))
        at = bisect_right(self._since, time)
        return self._born[at - 1]

    def _go_on(self, now: int) -> None:
        """Begin a new stretch of time; after a while the old ones count half, and the oldest are one."""
        if now >= self._halve_at:
            self._again /= 2
            self._born = [born / 2 for born in self._born]
            self._halve_at = now + self._memory
        if now > self._since[-1]:
            self._since.append(now)
            self._born.append(self._born[-1].copy())
        if len(self._since) > _STRETCHES:
            del self._since[1::2], self._born[1::2]


def _slopes(time: F64, hits: F64) -> F64:
    """From each age, the greatest rise of hits over time to any later age: [classes, ages]."""
    rise = hits[:, None, :] - hits[:, :-1, None]
    run = time[:, None, :] - time[:, :-1, None]
    slopes: F64 = np.where(run > 0, rise / np.where(run > 0, run, 1), 0).max(2)
    return slopes
