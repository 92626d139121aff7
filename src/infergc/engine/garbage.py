"""Python's own garbage collector, kept out of the way of steps.

CPython frees by reference counts and has a collector for cycles. A young collection looks at the objects made since the
last one, some hundred. A full one looks at every object but the frozen, and all threads stand still meanwhile.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from infergc.engine.footprint import footprint
from infergc.units import MIB

_NEVER = 2**31 - 1  # the largest threshold there is
_GENERATIONS = 3
_OVERDUE_SECONDS = 60.0
_OVERDUE_BYTES = 64 * MIB
_SHARE = 1000  # of the time that full collections take of an engine that is never idle, at most 1 in so many
_LOOK_SECONDS = 1.0


class Pauses:
    """What every collection of this process cost and found, by generation; one of ``gc.callbacks``.

    Attributes:
        figures: plain data, one list with a place for each generation: ``collections``, ``pause_seconds`` (their
            sum), ``longest_seconds``, ``collected`` and ``uncollectable`` (objects). Changed in place.
    """

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = {
            name: [0] * _GENERATIONS
            for name in ("collections", "pause_seconds", "longest_seconds", "collected", "uncollectable")
        }
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Take the time: Python calls this at the start and at the stop of a collection."""
        if phase == "start":
            self._began = time.perf_counter()
            return
        seconds, generation, figures = time.perf_counter() - self._began, info["generation"], self.figures
        figures["collections"][generation] += 1
        figures["pause_seconds"][generation] += seconds
        figures["longest_seconds"][generation] = max(figures["longest_seconds"][generation], seconds)
        figures["collected"][generation] += info["collected"]
        figures["uncollectable"][generation] += info["uncollectable"]


class PythonGarbage:
    """While its block runs, no full collection starts by itself: they are run by ``collect``, when nobody waits.

    Young collections go on by Python's own rule: it counts what was made and not freed, so a step that leaves
    nothing behind costs nothing; collecting after so many steps would have to guess.

    On leaving, Python is as it was. A threshold that somebody else changed meanwhile is left as it is, and of several
    such blocks the one that set it restores it.

    Args:
        ledger: bytes that the process should hold at most, by holder; what it holds above that is garbage or a
            leak, and brings an overdue collection forward.
        now: seconds that never go back.

    Attributes:
        pauses: of all collections since the block began.
        collections: how many ``collect`` ran, by why: "idle" or "overdue".
    """

    def __init__(self, ledger: Mapping[str, int], now: Callable[[], float] = time.monotonic) -> None:
        self.pauses = Pauses()
        self.collections = {"idle": 0, "overdue": 0}
        self._expected = sum(size for holder, size in ledger.items() if holder != "kv")
        self._now = now
        self._restore: int | None = None  # the threshold that was ours to change
        self._held = self._froze = False
        self._collected_at = self._looked_at = 0.0
        self._pause = 0.0  # seconds that the latest collection took
        self._settled = 0  # bytes held after it

    def __enter__(self) -> Self:
        young, middle, old = gc.get_threshold()
        if old != _NEVER:
            self._restore = old
            gc.set_threshold(young, middle, _NEVER)
        gc.callbacks.append(self.pauses)
        self._held = True
        self._note_collection()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Leave Python as it was. Harmless when repeated."""
        if not self._held:
            return
        gc.callbacks.remove(self.pauses)
        young, middle, old = gc.get_threshold()
        if self._restore is not None and old == _NEVER:
            gc.set_threshold(young, middle, self._restore)
        if self._froze:
            gc.unfreeze()
        self._restore, self._held, self._froze = None, False, False

    def freeze(self) -> None:
        """Leave what exists now out of collections until the block ends: libraries, a model, an engine.

        Only for a process that is the engine's own: what is frozen and dies in a cycle is not freed.
        """
        gc.collect()
        gc.freeze()
        self._froze = True
        self._note_collection()

    def thaw(self) -> None:
        """Something of what was frozen may be garbage by now: freeze anew what lives."""
        with thawed():
            pass

    def collect(self, why: str = "idle") -> None:
        """Run a full collection. It costs what lives and is not frozen: some microseconds a thousand objects."""
        began = self._now()
        gc.collect()
        self._pause = self._now() - began
        self.collections[why] += 1
        self._note_collection()

    def rested(self) -> None:
        """Nothing ran since the latest collection, however long ago: what is overdue counts from now."""
        self._collected_at = self._now()

    def relieve(self) -> bool:
        """Collect between two steps if that is overdue; returns whether it did.

        An engine that is never idle collects after 60 s. It does so earlier when the process has grown by 64 MiB
        beyond what it should hold, and beyond what the last collection left. In either case only if all such
        collections take no more than a thousandth of the time. To be called at every step: it mostly reads a clock.
        """
        now = self._now()
        if now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        waited = now - self._collected_at
        if waited < _SHARE * self._pause or (waited < _OVERDUE_SECONDS and not self._grown()):
            return False
        self.collect("overdue")
        return True

    def _grown(self) -> bool:
        return _held() > max(self._expected, self._settled) + _OVERDUE_BYTES

    def _note_collection(self) -> None:
        self._collected_at = self._looked_at = self._now()
        self._settled = _held()


@contextmanager
def thawed() -> Iterator[None]:
    """Let ``gc`` see what is frozen, too. Where something was, all that lives when the block ends is frozen then."""
    frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    try:
        yield
    finally:
        if frozen:
            gc.collect()  # or garbage would be frozen with the rest, for ever
            gc.freeze()


def garbage_figures(garbage: PythonGarbage) -> dict[str, Any]:
    """What is told of Python's collections, as plain data: the pauses, and ``runs`` by why they were run."""
    return {**garbage.pauses.figures, "runs": garbage.collections}


def _held() -> int:
    """Bytes that the process holds beside KV."""
    held = footprint()
    return held.resident - held.shared
