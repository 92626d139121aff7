"""Live tensors, and those that leak, by type and shape."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_LABELS = ("dtype", "shape", "device")
_SUSPECTS = {  # figure of a suspect → (name, help)
    "tensors": ("tensors", "Tensors alike of which ever more grow old: a leak, if nothing bounds them."),
    "bytes": ("bytes", "Memory behind tensors alike of which ever more grow old."),
    "age": ("age_steps", "Steps since the eldest of tensors alike was first seen, of which ever more grow old."),
}
_CYCLES = {  # figure of a group → (name, help)
    "tensors": ("tensors", "Tensors that nothing but a reference cycle held, until Python's collector freed them."),
    "bytes": ("bytes", "Memory behind tensors that nothing but a reference cycle held, until it was freed."),
}


def tensors(figures: dict[str, Any]) -> Iterator[Metric]:
    """What the latest look found, and what cycles held since the start."""
    live = "Live tensors beside the model's, when the engine was last idle."
    yield GaugeMetricFamily("infergc_tensors", live, value=figures.get("live", 0))
    text = "Memory behind live tensors beside the model's, when the engine was last idle."
    yield GaugeMetricFamily("infergc_tensor_bytes", text, value=figures.get("bytes", 0))
    for key, (name, text) in _SUSPECTS.items():
        gauge = GaugeMetricFamily(f"infergc_tensor_leak_{name}", text, labels=_LABELS)
        yield _by_kind(gauge, key, figures.get("suspects", []))
    for key, (name, text) in _CYCLES.items():
        counter = CounterMetricFamily(f"infergc_tensor_cycle_{name}", text, labels=_LABELS)
        yield _by_kind(counter, key, figures.get("cycles", []))


def _by_kind(
    family: CounterMetricFamily | GaugeMetricFamily, key: str, groups: list[dict[str, Any]]
) -> CounterMetricFamily | GaugeMetricFamily:
    for group in groups:
        family.add_metric(tuple(group[label] for label in _LABELS), group[key])
    return family
