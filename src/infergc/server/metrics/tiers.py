"""Tiers below the device: bytes that lie in each, what is moved between them and why, and what the disk fails at."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from infergc.engine.tier_stats import TRANSFERS

_STATES = ("free", "live", "cached", "in_transit")
_LINK = ("source", "target", "reason")
_HOST = {  # figure → (name, help)
    "runs": ("kv_transfer_runs", "Contiguous pieces in which KV pages were copied between device and host."),
    "spared": ("kv_spared_pages", "KV pages that left the device and were on the host already."),
    "dropped": ("kv_dropped_pages", "KV pages that left the device for good: the host had no room."),
    "let_go": ("kv_host_let_go_pages", "KV pages that the host tier gave up for others."),
}
_DISK_NOW = {
    "pages": ("pages", "KV pages that can be read from disk, each of all layer groups."),
    "writing": ("writing_pages", "KV pages that are being written to disk."),
    "reading": ("reading_pages", "KV pages that are being read from disk."),
}
_DISK = {
    "unwritten": ("unwritten_pages", "KV pages that could not be written to disk."),
    "unread": ("unread_pages", "KV pages that were to be read from disk and could not be."),
    "lost": ("lost_pages", "KV pages that were on disk and are there no longer."),
}
_FILES = {
    "bytes_written": ("written_bytes", "Bytes written to files, tables of entries included."),
    "bytes_read": ("read_bytes", "Bytes read from files."),
    "write_seconds": ("write_seconds", "Time that writing to files took."),
    "read_seconds": ("read_seconds", "Time that reading from files took."),
    "pages_evicted": ("evicted_pages", "KV pages deleted from disk to make room."),
}


def bytes_by_tier(kv: dict[str, Any], tiers: dict[str, Any], page_bytes: dict[str, int]) -> Iterator[Metric]:
    """Bytes over all layer groups, by tier and state; of the disk what is there to be read."""
    text = "KV bytes over all layer groups; the states sum to infergc_kv_capacity_bytes. The disk has what can be read."
    held = GaugeMetricFamily("infergc_kv_bytes", text, labels=("tier", "state"))
    capacity = GaugeMetricFamily("infergc_kv_capacity_bytes", "KV bytes that there is room for.", labels=("tier",))
    places = {"device": kv} if not tiers else {"device": kv, "host": dict.fromkeys(kv, tiers["host"])}
    for tier, groups in places.items():
        sizes = [(group, page_bytes.get(name, 0)) for name, group in groups.items()]
        capacity.add_metric((tier,), sum(group["capacity"] * size for group, size in sizes))
        for state in _STATES:
            held.add_metric((tier, state), sum(group[state] * size for group, size in sizes))
    if tiers and tiers["disk"]:
        held.add_metric(("disk", "cached"), tiers["disk"]["pages"] * tiers["page_bytes"])
    yield held
    yield capacity


def preempted(ways: dict[str, int]) -> Iterator[Metric]:
    """Requests that gave way, by what became of their KV."""
    text = "Requests that gave way, by what became of their KV: swap keeps it on the host, recompute drops it."
    family = CounterMetricFamily("infergc_preemptions_by_way", text, labels=("way",))
    for way, times in ways.items():
        family.add_metric((way,), times)
    yield family


def transfers(tiers: dict[str, Any]) -> Iterator[Metric]:
    """Pages and bytes moved between tiers by reason, and time; none without tiers."""
    if not tiers:
        return
    text = "KV pages moved between tiers, each of all layer groups, by where and why; counted when they are planned."
    pages = CounterMetricFamily("infergc_kv_transfer_pages", text, labels=_LINK)
    text = "KV bytes moved between tiers: infergc_kv_transfer_pages_total in bytes."
    moved = CounterMetricFamily("infergc_kv_transfer_bytes", text, labels=_LINK)
    for reason, way in TRANSFERS.items():
        if tiers["disk"] or "disk" not in way:
            pages.add_metric((*way, reason), tiers["moved"][reason])
            moved.add_metric((*way, reason), tiers["moved"][reason] * tiers["page_bytes"])
    yield pages
    yield moved
    text = "KV bytes that were copied between device and host in steps that have landed, both ways together."
    yield CounterMetricFamily("infergc_kv_copied_bytes", text, value=tiers["copied"]["bytes"])
    text = "Time that copying between device and host took, both ways together, most of it behind steps."
    yield CounterMetricFamily("infergc_kv_copy_seconds", text, value=tiers["copied"]["seconds"])
    for key, (name, text) in _HOST.items():
        yield CounterMetricFamily(f"infergc_{name}", text, value=tiers[key])


def disk_cache(tiers: dict[str, Any], store: dict[str, Any]) -> Iterator[Metric]:
    """The disk tier: what is there by news of it, and what its files took and failed at; none without one.

    Args:
        tiers: the engine's figures.
        store: those of the files, which a busy engine may not have told yet.
    """
    disk = tiers.get("disk")
    if not disk:
        return
    for key, (name, text) in _DISK_NOW.items():
        yield GaugeMetricFamily(f"infergc_disk_cache_{name}", text, value=disk[key])
    text = "Segment files of the disk tier."
    yield GaugeMetricFamily("infergc_disk_cache_segments", text, value=store.get("segments", 0))
    for key, (name, text) in _DISK.items():
        yield CounterMetricFamily(f"infergc_disk_cache_{name}", text, value=disk[key])
    for key, (name, text) in _FILES.items():
        yield CounterMetricFamily(f"infergc_disk_cache_{name}", text, value=store.get(key, 0))
    text = "Pages, files or attempts of the disk tier that failed, by kind: each is a miss and no more."
    failures = CounterMetricFamily("infergc_disk_cache_failures", text, labels=("kind",))
    for kind, times in store.get("failures", {}).items():
        failures.add_metric((kind,), times)
    yield failures
