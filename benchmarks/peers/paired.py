"""Contenders measured in turns on one machine, and what is said of their figures.

On a shared machine a figure moves by more than what is to be told apart. So ours and a peer run side by side, pair
after pair within one run, and a ratio is the median over the pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")
Measure = Callable[[int], T]  # takes a number that only the two of a pair share, for input new to both


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of a figure."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    """Median and range; at least one value."""
    return Spread(median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours over theirs, pair by pair."""
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


def in_pairs(ours: Measure[T], peers: Mapping[str, Measure[T]], pairs: int) -> dict[str, list[tuple[T, T]]]:
    """Measure ``pairs`` pairs of ours and each peer; peers take turns, and who goes first alternates.

    Returns:
        peer → its pairs (ours, theirs), in order.
    """
    measured: dict[str, list[tuple[T, T]]] = {name: [] for name in peers}
    for turn in range(pairs):
        for index, (name, theirs) in enumerate(peers.items()):
            number = turn * len(peers) + index  # or ours would find a peer's input in its cache beside the next peer
            if turn % 2:
                their_figure = theirs(number)
                measured[name].append((ours(number), their_figure))
            else:
                measured[name].append((ours(number), theirs(number)))
    return measured
