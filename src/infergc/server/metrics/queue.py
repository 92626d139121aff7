"""The queue: who waits and who was refused, as the server counts; how long and what for, as the engine does."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from infergc.engine.queue_times import WAIT_BOUNDS
from infergc.sched.waits import REASONS
from infergc.server.entrance.line import REFUSED_FOR, Line
from infergc.server.metrics.histogram import cumulative


class LineCollector(Collector):
    """Shows the line before the engine as it is."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def collect(self) -> Iterator[Metric]:
        """Its length, its limit, and refusals by reason."""
        text = "Choices of requests that have not started, those included that are still being read or tokenised."
        yield GaugeMetricFamily("infergc_queue_requests", text, value=self._line.waiting)
        text = "Choices of requests that are being read or tokenised."
        yield GaugeMetricFamily("infergc_queue_reading_requests", text, value=self._line.reading)
        text = "Choices of requests that may wait: --max-num-queued-reqs."
        yield GaugeMetricFamily("infergc_queue_limit_requests", text, value=self._line.most)
        text = "Requests refused: 429 for a full queue, 503 for not having started in time."
        refused = CounterMetricFamily("infergc_requests_refused", text, labels=("reason",))
        for reason in REFUSED_FOR:
            refused.add_metric((reason,), self._line.refused[reason])
        yield refused


def queue_times(figures: dict[str, Any]) -> Iterator[Metric]:
    """Time that requests waited, by what for; and how long each did before it started."""
    text = (
        "Time that requests waited, all together, for: a slot, tokens of the step, memory, KV of a lower tier, another "
        "that is first in order, the next plan."
    )
    seconds = CounterMetricFamily("infergc_queue_seconds", text, labels=("reason",))
    for reason in REASONS:
        seconds.add_metric((reason,), figures.get("by_reason", {}).get(reason, 0.0))
    yield seconds
    text = "Seconds that requests waited in the engine before they started."
    times = HistogramMetricFamily("infergc_request_queue_time_seconds", text)
    times.add_metric((), *wait_buckets(figures))
    yield times


def wait_buckets(figures: dict[str, Any]) -> tuple[list[tuple[str, float]], float]:
    """The buckets of the waits before the start, and their sum."""
    counts = figures.get("counts", [0] * (len(WAIT_BOUNDS) + 1))
    return cumulative(WAIT_BOUNDS, counts), figures.get("waited", 0.0)
