"""The engine's counters and gauges as plain data, for metrics and people."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from infergc.sched.scheduler import Scheduler


@dataclass(slots=True)
class EngineCounters:
    """Running totals since start."""

    steps: int = 0
    failed_steps: int = 0
    finished: Counter[str] = field(default_factory=Counter)  # by reason


def snapshot(scheduler: Scheduler, counters: EngineCounters) -> dict[str, Any]:
    """Everything that is counted, as nested plain data.

    Keys: ``requests`` {running, waiting}; ``kv`` {group: {capacity, free, live, cached, in_transit}} in pages;
    ``counters`` running totals, tokens and pages as their names say.
    """
    heap = scheduler.heap
    return {
        "requests": {"running": len(scheduler.running), "waiting": len(scheduler.waiting)},
        "kv": {
            group.name: {key: value for key, value in asdict(group).items() if key != "name"} for group in heap.stats()
        },
        "counters": {
            "steps": counters.steps,
            "failed_steps": counters.failed_steps,
            **asdict(scheduler.counters),
            "cow_copies": heap.counters.copies,
            "evicted_pages": heap.counters.evicted,
            "sealed_pages": heap.counters.sealed,
            "deduplicated_pages": heap.counters.deduplicated,
            "refused_reservations": heap.counters.refusals,
            **{f"finished_{reason}": counters.finished[reason] for reason in ("stop", "length", "abort", "error")},
        },
    }
