"""What left the prefix cache: why, and after how long."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from infergc.heap.residency import BOUNDS
from infergc.server.metrics.histogram import cumulative


def reclaim(evicted: dict[str, int], residency: dict[str, Any]) -> Iterator[Metric]:
    """Pages reclaimed by reason, and how many steps they had been there by generation."""
    text = "Cached pages reclaimed: for room, for runs of adjacent pages, or to keep the target share free."
    reasons = CounterMetricFamily("infergc_kv_evicted_pages", text, labels=("reason",))
    for reason, pages in evicted.items():
        reasons.add_metric((reason,), pages)
    yield reasons
    text = "Steps that pages had been in the prefix cache when they were reclaimed, by their generation then."
    stays = HistogramMetricFamily("infergc_kv_residency_steps", text, labels=("generation",))
    for generation, figures in residency.items():
        stays.add_metric((generation,), cumulative(BOUNDS, figures["counts"]), figures["steps"])
    yield stays
