"""What lies in the tiers below the device and what was moved between them, as plain data."""

from typing import Any

from infergc.heap.tiers import Tiers
from infergc.sched.scheduler import Scheduler
from infergc.sched.tier_use import TierUse

TRANSFERS = {  # why pages were moved → from where, to where; running totals of ``TierCounters`` and ``DiskCounters``
    "demoted": ("device", "host"),
    "saved": ("device", "host"),
    "promoted": ("host", "device"),
    "written": ("host", "disk"),
    "read": ("disk", "host"),
}
# Why the disk tier could not keep or give a page, in the words of whatever is the disk.
DISK_FAILURES = (
    "corrupt", "truncated", "mismatched", "unreadable", "vanished", "foreign", "full", "unwritable", "internal",
)  # fmt: skip


def preempted(scheduler: Scheduler) -> dict[str, int]:
    """Requests that gave way, by what became of their KV; they sum to the preemptions."""
    swapped = 0 if scheduler.tier_use is None else scheduler.tier_use.swapped
    return {"swap": swapped, "recompute": scheduler.counters.preemptions - swapped}


def tier_figures(scheduler: Scheduler) -> dict[str, Any]:
    """The tiers' figures; empty where there are none. Pages count once for all layer groups.

    Keys: ``host`` {capacity, free, live, cached, in_transit} in pages, as of a group of the device, claimed ones live
    and those on their way from disk in transit, and ``fragmentation``; ``page_bytes`` of one over all groups; ``moved``
    pages by ``TRANSFERS``; ``runs`` in which pages were copied between device and host; ``spared`` and ``dropped`` as
    in ``TierCounters``, ``let_go`` as in ``HostTier``; ``copied`` {bytes, seconds} between device and host, as steps
    that landed told; ``disk``, if there is one: {pages, writing, reading, unwritten, unread, lost, bytes_read,
    read_seconds}.
    Cost: O(1), a few microseconds.
    """
    tiers, use = scheduler.heap.tiers, scheduler.tier_use
    if tiers is None or use is None:
        return {}
    host, counters = tiers.host.stats, tiers.counters
    written, read = (0, 0) if tiers.disk is None else (tiers.disk.counters.written, tiers.disk.counters.read)
    return {
        "host": {
            "capacity": host.capacity,
            "free": host.free,
            "live": host.held,
            "cached": host.cached,
            "in_transit": host.arriving,
            "fragmentation": tiers.host.space.fragmentation,
        },
        "page_bytes": sum(pages.spec.page_bytes for pages in scheduler.heap.groups),
        "moved": {
            "demoted": counters.demoted,
            "saved": counters.saved,
            "promoted": counters.promoted,
            "written": written,
            "read": read,
        },
        "runs": counters.copies,
        "spared": counters.spared,
        "dropped": counters.dropped,
        "let_go": tiers.host.let_go,
        "copied": {"bytes": use.copying.size_so_far, "seconds": use.copying.seconds_so_far},
        "disk": _disk(tiers, use),
    }


def _disk(tiers: Tiers, use: TierUse) -> dict[str, Any] | None:
    disk = tiers.disk
    if disk is None:
        return None
    return {
        "pages": len(disk.keys),
        "writing": len(disk.writing),
        "reading": len(disk.reading),
        "unwritten": disk.counters.unwritten,
        "unread": disk.counters.unread,
        "lost": disk.counters.lost,
        "bytes_read": use.reading.size_so_far,
        "read_seconds": use.reading.seconds_so_far,
    }
