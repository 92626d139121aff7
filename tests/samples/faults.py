"""Faults at any point of an iteration: every call of the engine, or of its worker to torch, numpy and the kernels."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from infergc.engine.loop import Engine
from infergc.sched.plan import StepPlan

_WORKER = ("infergc/worker/", "infergc/models/", "infergc/kernels/")
_ENGINE = ("infergc/engine/", "infergc/sched/", "infergc/heap/", "infergc/policies/")
_GUARD = "engine/resuming.py"
_OUTSIDE = ("torch", "numpy", "_ctypes", "ctypes")
# Before these have begun nobody guards the moves: all begins anew. A fence is the time on the host: no memory.
_UNGUARDED = frozenset({"run", "make", "fence"})


Place = Callable[[FrameType, str, Any], bool]


def in_worker(frame: FrameType, event: str, arg: Any) -> bool:
    """A call of the worker's, or of a library's by it."""
    if not any(part in frame.f_code.co_filename for part in _WORKER):
        return False
    if event == "call":
        return frame.f_code.co_name not in _UNGUARDED
    return event == "c_call" and str(getattr(arg, "__module__", None) or type(arg).__module__).startswith(_OUTSIDE)


def in_engine(frame: FrameType, event: str, _arg: Any) -> bool:
    """A call of whatever the engine, its heap, scheduler and policies call, but for who guards them."""
    where = frame.f_code.co_filename
    is_inside = any(part in where for part in _ENGINE) and not where.endswith(_GUARD)
    return is_inside and event in {"call", "c_call"}


class Points:
    """Counts the points of what runs inside of ``counting``, and raises at one of them.

    Args:
        is_point: which events of ``sys.setprofile`` are.

    Attributes:
        passed: so far.
        at: the point that raises, by number; -1 for none. It raises once.
    """

    def __init__(self, is_point: Place = in_worker) -> None:
        self.passed = 0
        self.at = -1
        self._is_point = is_point

    @property
    def spent(self) -> bool:
        """Whether the point was reached."""
        return 0 <= self.at < self.passed

    @contextmanager
    def counting(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self._hook)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _hook(self, frame: FrameType, event: str, arg: Any) -> None:
        if not self._is_point(frame, event, arg):
            return
        self.passed += 1
        if self.passed - 1 == self.at:
            raise MemoryError(f"no memory at point {self.at}")


def watch_worker(engine: Engine, points: Points) -> None:
    """Count the points of every step of a real engine, and of its copier."""
    executor: Any = engine._executor
    run = executor._runner.run

    def watched(*arguments: Any) -> Any:
        with points.counting():
            return run(*arguments)

    executor._runner.run = watched
    if executor._copier is not None:
        copy = executor._copier._copy

        def copied(*arguments: Any) -> Any:
            with points.counting():
                return copy(*arguments)

        executor._copier._copy = copied


class Poison:
    """Makes every step fail that has a request in it, at one of its points or at its very end.

    Attributes:
        name: of the request, "" for none.
        point: by number within the step.
    """

    def __init__(self, engine: Engine) -> None:
        self.name = ""
        self.point = 0
        self.steps = 0
        self._engine = engine
        self._steps: set[int] = set()
        executor: Any = engine._executor
        launch, run = executor.launch, executor._runner.run
        executor.launch = self._launching(launch)
        executor._runner.run = self._running(run)

    def _launching(self, launch: Callable[[StepPlan], Any]) -> Callable[[StepPlan], Any]:
        def launching(plan: StepPlan) -> Any:
            heap = self._engine.heap
            owners = {heap.sequences[int(heap.holder[slot])].owner for slot in plan.slots}
            if self.name in owners:
                self._steps.add(plan.step)
            return launch(plan)

        return launching

    def _running(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def running(plan: StepPlan, *rest: Any) -> Any:
            if plan.step not in self._steps:
                return run(plan, *rest)
            points = Points()
            points.at = self.point
            with points.counting():
                run(plan, *rest)
            raise MemoryError("no memory at the end")

        return running
