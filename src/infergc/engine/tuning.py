"""Settings of a running engine: those that may change between two steps, by the names they have in ``EngineConfig``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infergc.engine.pacing import Pacer
from infergc.sched.scheduler import Scheduler

_TRIGGERS = {"gc_minor_pages": "minor_pages", "gc_major_pages": "major_pages", "gc_watermark": "watermark"}
_AGES = {"gc_young_steps": "young", "gc_survivor_steps": "survivor", "gc_tenured_steps": "tenured"}
_PACES = {"gc_step_us": "step_us", "gc_idle_us": "idle_us"}
COMPACTION = "compaction_budget"  # there only where the engine compacts


class Tuning:
    """Reads and changes them, at a safepoint. Bounds are for who asks to check: those of ``EngineConfig``."""

    def __init__(self, scheduler: Scheduler, pacer: Pacer) -> None:
        self._scheduler = scheduler
        self._heap = scheduler.heap
        self._pacer = pacer

    def values(self) -> dict[str, Any]:
        """All of them as they are."""
        triggers, ages = self._pacer.collector.triggers, self._heap.tree.generations.ages
        compactor = self._heap.compactor
        return {
            **{name: getattr(self._pacer, field) for name, field in _PACES.items()},
            **{name: getattr(triggers, field) for name, field in _TRIGGERS.items()},
            "gc_target_free": self._heap.reclaimer.target_free,
            **{name: getattr(ages, field) for name, field in _AGES.items()},
            **({COMPACTION: compactor.knobs.budget} if compactor is not None else {}),
            "max_sessions": self._scheduler.sessions.most,
            "pin_budget": self._heap.pin_share,
        }

    def change(self, settings: Mapping[str, Any]) -> None:
        """Change these, all or none. New ages hold for the nodes that wait for a look as well.

        Raises:
            ValueError: there is no such setting here.
        """
        unknown = sorted(settings.keys() - self.values().keys())
        if unknown:
            raise ValueError(f"{unknown[0]} cannot be changed in this engine")
        collector, generations = self._pacer.collector, self._heap.tree.generations
        collector.triggers = replace(collector.triggers, **_picked(settings, _TRIGGERS))
        generations.ages = replace(generations.ages, **_picked(settings, _AGES))
        for field, value in _picked(settings, _PACES).items():
            setattr(self._pacer, field, value)
        compactor, reclaimer, sessions = self._heap.compactor, self._heap.reclaimer, self._scheduler.sessions
        if compactor is not None and COMPACTION in settings:
            compactor.knobs = replace(compactor.knobs, budget=settings[COMPACTION])
        reclaimer.target_free = settings.get("gc_target_free", reclaimer.target_free)
        sessions.limit(settings.get("max_sessions", sessions.most))
        self._scheduler.pins.limit(settings.get("pin_budget", self._heap.pin_share))


def _picked(settings: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    return {field: settings[name] for name, field in fields.items() if name in settings}
