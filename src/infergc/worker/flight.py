"""A step on the worker's thread, and whether its moves were made."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Protocol

from infergc.heap.errors import StorageLost
from infergc.heap.moves import Move
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.worker.copier import Copied


class Moving:
    """The moves of a step.

    Attributes:
        made: whether all of them were.
        over: is set when they were, or never will be; who waits for that learns the rest from the step's outcome.
    """

    def __init__(self) -> None:
        self.made = False
        self.over = Event()


class Run(Protocol):
    """What carries out a step: ``StepRunner.run``."""

    def __call__(
        self, plan: StepPlan, moves: tuple[Move, ...], copied: Future[Copied] | None, moving: Moving
    ) -> StepOutcome:
        """Carry out a step."""
        ...


class StepFlight:
    """Implements ``engine.ports.Flight``: a step that was handed to a thread, whether or not it ever begins there.

    Attributes:
        moving: its moves.

    Args:
        thread: that runs it.
        run: carries it out.
        plan, moves, copied: see ``StepRunner.run``.

    Raises:
        RuntimeError: the thread takes nothing more; the step was not begun.
        StorageLost: it was, and nobody can wait for it.
    """

    def __init__(
        self,
        thread: ThreadPoolExecutor,
        run: Run,
        plan: StepPlan,
        moves: tuple[Move, ...],
        copied: Future[Copied] | None,
    ) -> None:
        self.moving = Moving()
        self._future = thread.submit(run, plan, moves, copied, self.moving)
        try:
            self._future.add_done_callback(lambda _: self.moving.over.set())
        except MemoryError as error:
            raise StorageLost("a step was begun of which nobody can hear") from error

    def done(self) -> bool:
        """See ``engine.ports.Flight``."""
        return self._future.done()

    def result(self) -> StepOutcome:
        """See ``engine.ports.Flight``.

        Raises:
            StorageLost: its moves were not made, and others than this step's requests depend on them.
        """
        try:
            return self._future.result()
        except Exception as error:
            if self.moving.made or isinstance(error, StorageLost):
                raise
            raise StorageLost(f"{type(error).__name__}: {error}, before the step's moves were made") from error
