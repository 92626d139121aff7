"""Histograms: one that is cheap enough to be fed once per token, and buckets as Prometheus wants them."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


def cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Counts of a bucket each as Prometheus wants them: the upper bound, and how many lie at or below it."""
    return list(zip([*map(str, bounds), "+Inf"], accumulate(counts), strict=True))


class Distribution(Collector):
    """A Prometheus histogram with fixed labels.

    ``observe`` costs a binary search however often a value is counted; prometheus_client's own takes a lock
    twice for each single value. To be fed from one thread.

    Args:
        name: of the family.
        text: its help.
        bounds: upper bounds of the buckets, ascending; one without bound is added.
        labels: names and values.
    """

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: dict[str, str]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def collect(self) -> Iterator[Metric]:
        """The family as it stands."""
        family = HistogramMetricFamily(self._name, self._text, labels=tuple(self._labels))
        family.add_metric(tuple(self._labels.values()), cumulative(self._bounds, self._counts), self._sum)
        yield family
