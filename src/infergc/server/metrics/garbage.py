"""Python's own collector: its pauses and what it found, by generation."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_COUNTERS = {  # figure of the engine → (name, help)
    "collections": ("collections", "Collections that Python's collector ran in the engine's process."),
    "pause_seconds": ("pause_seconds", "Seconds that the engine's process stood still for Python's collector."),
    "collected": ("collected_objects", "Objects in reference cycles that Python's collector freed."),
    "uncollectable": ("uncollectable_objects", "Objects that Python's collector found and could not free."),
}


def python_garbage(figures: dict[str, Any]) -> Iterator[Metric]:
    """Pauses by generation, of which 2 is a full collection, and why those were run."""
    for key, (name, text) in _COUNTERS.items():
        family = CounterMetricFamily(f"infergc_python_gc_{name}", text, labels=("generation",))
        yield _by_generation(family, figures.get(key, []))
    longest = GaugeMetricFamily(
        "infergc_python_gc_longest_pause_seconds",
        "The longest pause for Python's collector since start.",
        labels=("generation",),
    )
    yield _by_generation(longest, figures.get("longest_seconds", []))
    runs = CounterMetricFamily(
        "infergc_python_gc_full_runs",
        "Full collections that the engine ran: idle, or overdue between the steps of an engine that is never idle.",
        labels=("reason",),
    )
    for reason, number in sorted(figures.get("runs", {}).items()):
        runs.add_metric((reason,), number)
    yield runs


def _by_generation(
    family: CounterMetricFamily | GaugeMetricFamily, values: list[float]
) -> CounterMetricFamily | GaugeMetricFamily:
    for generation, value in enumerate(values):
        family.add_metric((str(generation),), value)
    return family
