"""The engine's counters and gauges as plain data, for metrics and people."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from infergc.engine.faults import WHERES
from infergc.engine.pacing import Pacer
from infergc.engine.queue_times import QueueTimes
from infergc.engine.tier_stats import preempted, tier_figures
from infergc.heap.collector import CollectorCounters
from infergc.heap.dump import pages_by_generation
from infergc.heap.generations import GENERATIONS
from infergc.heap.reclaim import REASONS
from infergc.heap.stats import GroupStats
from infergc.sched.counters import SchedulerCounters
from infergc.sched.pins import ASKED, ENDED_FOR, Pins
from infergc.sched.scheduler import Scheduler

_REFUSED = {where: f"allocation_failures_{where}" for where in WHERES}
_FINISHED = {reason: f"finished_{reason}" for reason in ("stop", "length", "abort", "error", "timeout")}


@dataclass(slots=True)
class EngineCounters:
    """Running totals since start."""

    steps: int = 0
    failed_steps: int = 0
    resumptions: int = 0  # times that another engine went on in place of one that failed
    corruptions: int = 0  # found in storage under --heap-debug
    refused: Counter[str] = field(default_factory=Counter)  # allocations, by ``engine.faults.WHERES``
    finished: Counter[str] = field(default_factory=Counter)  # by reason

    def copy(self) -> "EngineCounters":
        """As they are now."""
        return replace(self, refused=self.refused.copy(), finished=self.finished.copy())


def snapshot(scheduler: Scheduler, counters: EngineCounters, pacer: Pacer, queue: QueueTimes) -> dict[str, Any]:
    """Everything that is counted, as nested plain data that stays as it is.

    Keys: ``requests`` {running, waiting, loading}; ``queue`` {taken, unstarted}, choices as in
    ``engine.queue_times``; ``kv`` {group: {capacity, free, live, cached, in_transit}} in pages, and its
    ``fragmentation``, 0 to 1; ``counters`` running totals, tokens and pages as their names say; ``sessions`` {open,
    closed by reason}; ``pins`` {open, pages, budget_pages, asked and ended by outcome}, pages of each layer group;
    ``preempted`` and ``tiers`` as in ``engine.tier_stats``; ``collector`` what the collector did: see
    ``heap.collector`` and ``engine.pacing``.
    """
    heap, collector = scheduler.heap, pacer.collector
    return {
        "requests": {
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting),
            "loading": scheduler.loading,
        },
        "queue": {"taken": queue.taken, "unstarted": queue.unstarted},
        "kv": {group.name: _columns(group) for group in heap.stats()},
        "counters": _counters(scheduler, counters),
        "sessions": {"open": len(scheduler.sessions), **scheduler.sessions.closed},
        "pins": _pins(scheduler.pins, heap.pinned, heap.pin_budget),
        "preempted": preempted(scheduler),
        "tiers": tier_figures(scheduler),
        "collector": {
            **_columns(collector.counters),
            "units": collector.counters.units.copy(),
            "cycles": heap.counters.cycles,
            "cycle_objects": heap.counters.cycle_objects,
            "promoted": heap.tree.generations.promoted.copy(),
            "demoted": heap.tree.generations.demoted.copy(),
            "pauses": pacer.pauses.counts.copy(),
            "pause_seconds": pacer.pauses.seconds,
            "longest_pause": pacer.pauses.longest,
        },
    }


def _counters(scheduler: Scheduler, counters: EngineCounters) -> dict[str, int]:
    heap = scheduler.heap
    return {
        "steps": counters.steps,
        "failed_steps": counters.failed_steps,
        "engine_resumptions": counters.resumptions,
        "corruptions": counters.corruptions,
        "requests_retried": scheduler.trials.retried,
        **{name: counters.refused[where] for where, name in _REFUSED.items()},
        **_columns(scheduler.counters),
        "cow_copies": heap.counters.copies,
        "evicted_pages": heap.counters.evicted,
        "sealed_pages": heap.counters.sealed,
        "deduplicated_pages": heap.counters.deduplicated,
        "refused_reservations": heap.counters.refusals,
        "compactions": heap.counters.compactions,
        "moved_pages": heap.counters.moved,
        **{name: counters.finished[reason] for reason, name in _FINISHED.items()},
    }


def figures(scheduler: Scheduler, counters: EngineCounters, pacer: Pacer, queue: QueueTimes) -> dict[str, Any]:
    """What ``snapshot`` gives, and what is too much for every step.

    Keys beside its own: ``pages`` {group: {state: {generation: pages}}}, which sum to ``kv``; ``page_bytes`` {group:
    bytes}; ``evicted`` pages by reason; ``residency`` {generation: {counts, steps}} as in ``heap.residency``;
    ``collection_seconds`` by kind; ``queue_seconds`` {by_reason, counts, waited} as in ``engine.queue_times``.
    Cost: O(capacity) array work.
    """
    heap = scheduler.heap
    stays = heap.reclaimer.residency
    return {
        **snapshot(scheduler, counters, pacer, queue),
        "pages": pages_by_generation(heap),
        "page_bytes": {pages.spec.name: pages.spec.page_bytes for pages in heap.groups},
        "evicted": {reason: heap.counters.evicted_for[reason] for reason in REASONS},
        "residency": {
            name: {"counts": counts.copy(), "steps": steps}
            for name, counts, steps in zip(GENERATIONS, stays.counts, stays.steps, strict=True)
        },
        "collection_seconds": pacer.pauses.by_kind.copy(),
        "queue_seconds": {"by_reason": queue.seconds.copy(), "counts": queue.counts.copy(), "waited": queue.waited},
    }


def _pins(pins: Pins, pages: int, budget: int) -> dict[str, Any]:
    return {
        "open": len(pins),
        "pages": pages,
        "budget_pages": budget,
        "asked": {outcome: pins.asked[outcome] for outcome in ASKED},
        "ended": {reason: pins.ended[reason] for reason in ENDED_FOR},
    }


def _columns(figures: GroupStats | SchedulerCounters | CollectorCounters) -> dict[str, Any]:
    """The figures by name. It runs at every step: ``dataclasses.asdict`` would take a twentieth of it."""
    return {name: getattr(figures, name) for name in figures.__slots__ if name != "name"}
