"""What clients may ask of a running engine, each answered at a safepoint."""

from collections.abc import Callable, Mapping
from typing import Any

from infergc.engine.messages import Answer, Ask
from infergc.engine.pacing import Pacer
from infergc.engine.queue_times import QueueTimes
from infergc.engine.stats import EngineCounters, figures
from infergc.engine.tuning import Tuning
from infergc.heap.dump import dump
from infergc.heap.errors import HeapCorruption, listed
from infergc.heap.tier_dump import Steps
from infergc.sched.scheduler import Scheduler
from infergc.wording import shown


class Inquiries:
    """Answers, each by the name of the method that gives it.

    Args:
        scheduler: with its heap.
        counters: the engine's.
        pacer: with its collector.
        queue: how long requests wait.
        damage: looks for what is wrong with storage, in words.
        disk: what the disk tier counts of its files, see ``Executor.disk_figures``.
        steps: those in flight, with their moves.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        counters: EngineCounters,
        pacer: Pacer,
        queue: QueueTimes,
        damage: Callable[[], list[str]],
        disk: Callable[[], Mapping[str, Any]],
        steps: Callable[[], Steps],
    ) -> None:
        self._damage = damage
        self._disk = disk
        self._steps = steps
        self._scheduler = scheduler
        self._counters = counters
        self._pacer = pacer
        self._queue = queue
        self._tuning = Tuning(scheduler, pacer)
        self._kinds: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "verify": self._verify,
            "verification": self._verification,
            "heap": self._heap,
            "figures": self._figures,
            "progress": self._progress,
            "settings": self._settings,
            "close_session": self._close_session,
        }

    def answer(self, ask: Ask) -> Answer:
        """Answer, or say what is wrong with the question."""
        kind = self._kinds.get(ask.what)
        if kind is None:
            return Answer(ask.number, error=f"{shown(ask.what)} is none of {', '.join(self._kinds)}")
        try:
            return Answer(ask.number, kind(ask.about))
        except (KeyError, TypeError, ValueError) as error:
            return Answer(ask.number, error=f"{ask.what}: {error}")

    def _verify(self, about: dict[str, Any]) -> str:
        """What a verification found, "" if all is well."""
        return str(self._verification(about)["found"])

    def _verification(self, _about: dict[str, Any]) -> dict[str, Any]:
        """Trace from the roots, recount every page and mend what is wrong; then check the laws and storage.

        Keys: ``found`` what was wrong, "" if all is well; ``freed_objects`` objects in cycles that were due to be
        freed, which is no fault: the collector had not come to them, or is off.
        """
        heap = self._scheduler.heap
        before = heap.counters.cycle_objects
        found = [str(self._pacer.verify())]
        try:
            heap.check()
        except HeapCorruption as error:
            found.append(str(error))
        freed = heap.counters.cycle_objects - before
        return {"found": listed([*filter(None, found), *self._damage()]), "freed_objects": freed}

    def _heap(self, _about: dict[str, Any]) -> dict[str, Any]:
        """Who holds what, see ``heap.dump``; and who waits for it.

        Keys besides: ``queue`` {waiting, unstarted, waits_for}, the latter what the first in line waits for, "" if
        nobody does; ``queue_seconds`` by reason, see ``engine.queue_times``.
        """
        waiting, use = len(self._scheduler.waiting), self._scheduler.tier_use
        return {
            **dump(self._scheduler.heap, () if use is None else use.claims, self._steps()),
            "queue": {
                "waiting": waiting,
                "unstarted": self._queue.unstarted,
                "waits_for": self._scheduler.waits_for if waiting else "",
            },
            "queue_seconds": self._queue.seconds.copy(),
        }

    def _figures(self, _about: dict[str, Any]) -> dict[str, Any]:
        """All that is counted, what takes a look at every page included, and ``disk_store``: of the disk's files."""
        found = figures(self._scheduler, self._counters, self._pacer, self._queue)
        return {**found, "disk_store": dict(self._disk())}

    def _progress(self, _about: dict[str, Any]) -> dict[str, Any]:
        """Whether there is work, and the steps so far: as long as there is, they must become more."""
        return {"steps": self._counters.steps, "has_work": not self._scheduler.idle}

    def _settings(self, about: dict[str, Any]) -> dict[str, Any]:
        """Change these settings, and give all that can be changed."""
        self._tuning.change(about)
        return self._tuning.values()

    def _close_session(self, about: dict[str, Any]) -> str:
        """Close a tenant's session; see ``Sessions.close``."""
        return self._scheduler.sessions.close((about["salt"], about["session"]), about["reason"])
