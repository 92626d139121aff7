"""The collector of the KV heap: what it did, how long it took, what it found."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from infergc.engine.pacing import PAUSE_BOUNDS
from infergc.heap.generations import GENERATIONS
from infergc.server.metrics.histogram import cumulative

_TOTALS = {  # figure of the engine → (name, help)
    "cycles": ("cycles", "Times that trial deletion found cycles of heap objects that nothing held."),
    "cycle_objects": ("cycle_objects", "Heap objects freed from cycles."),
    "leaks": ("leaked_pages", "References to pages that no object held, found and dropped."),
    "garbage": ("garbage_objects", "Heap objects that no root reached and only a major collection found."),
    "corrupt": ("corrupt_counts", "Places where pages counted fewer references than there were."),
}
_MOVES = {
    "promoted": "Nodes of the prefix tree that moved up into a generation because they were served again.",
    "demoted": "Nodes of the prefix tree that moved down into a generation because nobody asked for them.",
}


def kv_garbage(figures: dict[str, Any], seconds: dict[str, float]) -> Iterator[Metric]:
    """Collections by kind: minor ones look at the young generation, major ones at all; and what they found."""
    text = "Collections completed: minor, of the young generation, and major, of all."
    collections = {kind: figures.get(kind, 0) for kind in ("minor", "major")}
    yield _labelled(CounterMetricFamily("infergc_kv_collections", text, labels=("kind",)), collections)
    text = "Work of the collector in units, by kind: objects, edges and nodes looked at, or some hundred pages."
    units = CounterMetricFamily("infergc_kv_collector_units", text, labels=("kind",))
    yield _labelled(units, figures.get("units", {}))
    text = "Time of the collector by kind of work; a pause is divided as its work units are."
    yield _labelled(CounterMetricFamily("infergc_kv_collection_seconds", text, labels=("kind",)), seconds)
    for key, (name, text) in _TOTALS.items():
        yield CounterMetricFamily(f"infergc_kv_{name}", text, value=figures.get(key, 0))
    for key, text in _MOVES.items():
        family = CounterMetricFamily(f"infergc_kv_{key}_nodes", text, labels=("generation",))
        yield _labelled(family, dict(zip(GENERATIONS, figures.get(key, ()), strict=False)))
    yield from _pauses(figures)


def _pauses(figures: dict[str, Any]) -> Iterator[Metric]:
    pauses = HistogramMetricFamily("infergc_kv_collector_pause_seconds", "Pauses of the engine for the collector.")
    counts = figures.get("pauses", [0] * (len(PAUSE_BOUNDS) + 1))
    pauses.add_metric((), cumulative(PAUSE_BOUNDS, counts), figures.get("pause_seconds", 0.0))
    yield pauses
    text = "The longest pause for the collector since start."
    yield GaugeMetricFamily("infergc_kv_collector_longest_pause_seconds", text, value=figures.get("longest_pause", 0.0))


def _labelled(family: CounterMetricFamily, values: dict[str, float]) -> CounterMetricFamily:
    for label, value in values.items():
        family.add_metric((label,), value)
    return family
