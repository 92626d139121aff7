"""Pins: how many there are, what they hold of their budget, and what came of asking for others."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


def pins(figures: dict[str, Any]) -> Iterator[Metric]:
    """Pages used and allowed, in each layer group; pins by what became of them."""
    yield GaugeMetricFamily("infergc_kv_pins", "Prefixes that are pinned.", value=figures.get("open", 0))
    text = "KV pages that pins hold in each layer group; one that several hold counts once."
    yield GaugeMetricFamily("infergc_kv_pinned_pages", text, value=figures.get("pages", 0))
    text = "KV pages that pins may hold in each layer group: --pin-budget."
    yield GaugeMetricFamily("infergc_kv_pin_budget_pages", text, value=figures.get("budget_pages", 0))
    text = "Pins asked for: granted anew, renewed, or refused for the budget."
    yield _by("infergc_kv_pin_requests", text, "outcome", figures.get("asked", {}))
    text = "Pins that ended: their time was over, or a request could not have run otherwise."
    yield _by("infergc_kv_pins_ended", text, "reason", figures.get("ended", {}))


def _by(name: str, text: str, label: str, figures: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, number in figures.items():
        family.add_metric((value,), number)
    return family
