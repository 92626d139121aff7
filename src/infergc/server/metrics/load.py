"""What is in the engine now: requests and KV pages, by state."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric


def requests_by_state(requests: dict[str, int]) -> Iterator[Metric]:
    """Running, waiting, and waiting for KV that is read from disk."""
    text = "Requests in the engine, by state; loading: their KV is being read from disk."
    family = GaugeMetricFamily("infergc_requests", text, labels=("state",))
    for state, number in sorted(requests.items()):
        family.add_metric((state,), number)
    yield family


def pages_by_generation(pages: dict[str, dict[str, dict[str, int]]]) -> Iterator[Metric]:
    """The pages of each state by the generation that they are in."""
    text = "KV pages by state and generation; the generations sum to infergc_kv_pages. Free pages have none."
    family = GaugeMetricFamily("infergc_kv_pages_by_generation", text, labels=("tier", "group", "state", "generation"))
    for group, states in sorted(pages.items()):
        for state, generations in states.items():
            for generation, number in generations.items():
                family.add_metric(("device", group, state, generation), number)
    yield family


def pages_by_state(kv: dict[str, Any], host: dict[str, Any] | None, page_bytes: dict[str, int]) -> Iterator[Metric]:
    """Free, live, cached and in transit, for each tier and layer group, their sum, and how the free ones lie.

    Args:
        kv: of the device, by group.
        host: of each group in the host tier, None without one.
        page_bytes: of a page, by group.
    """
    help_text = "KV pages by state; the states sum to the capacity. On the host, live ones are those that are claimed."
    pages = GaugeMetricFamily("infergc_kv_pages", help_text, labels=("tier", "group", "state"))
    capacity = GaugeMetricFamily("infergc_kv_pages_capacity", "KV pages that exist.", labels=("tier", "group"))
    text = "Share of the free KV pages that lie in superblocks partly in use, 0 to 1."
    fragmentation = GaugeMetricFamily("infergc_kv_fragmentation_ratio", text, labels=("tier", "group"))
    text = "Bytes of a KV page, over the layers of its group."
    sizes = GaugeMetricFamily("infergc_kv_page_bytes", text, labels=("group",))
    tiers = {"device": kv} if host is None else {"device": kv, "host": dict.fromkeys(kv, host)}
    for tier, groups in tiers.items():
        for group, states in sorted(groups.items()):
            fragmentation.add_metric((tier, group), states.get("fragmentation", 0.0))
            capacity.add_metric((tier, group), states.get("capacity", 0))
            for state in ("free", "live", "cached", "in_transit"):
                pages.add_metric((tier, group, state), states.get(state, 0))
    for group, size in sorted(page_bytes.items()):
        sizes.add_metric((group,), size)
    yield pages
    yield capacity
    yield fragmentation
    yield sizes
