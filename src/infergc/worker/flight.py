"""A step on the worker's thread, and what comes of it once the device has computed it."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch

from infergc.heap.errors import StorageLost
from infergc.heap.moves import Move
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.worker.memory.copier import Copied, Moving


class Landing(Protocol):
    """A step that was given to the device."""

    def outcome(self) -> StepOutcome:
        """Wait for it."""
        ...


class Run(Protocol):
    """What carries out a step: ``StepRunner.run``."""

    def __call__(
        self, plan: StepPlan, moves: tuple[Move, ...], copied: Future[Copied] | None, moving: Moving
    ) -> Landing:
        """Give a step to the device."""
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
        over = self.moving.over
        self._future = thread.submit(run, plan, moves, copied, self.moving)
        try:
            self._future.add_done_callback(lambda _: over.set())  # without self: no cycle that holds tensors
        except MemoryError as error:
            raise StorageLost("a step was begun of which nobody can hear") from error

    def result(self) -> StepOutcome:
        """See ``engine.ports.Flight``.

        Raises:
            StorageLost: its moves were not made, and others than this step's requests depend on them; or the device
                does nothing more for this process.
        """
        try:
            return self._future.result().outcome()
        except torch.AcceleratorError as error:
            raise StorageLost(f"the device failed: {error}") from error
        except Exception as error:
            if self.moving.made or isinstance(error, StorageLost):
                raise
            raise StorageLost(f"{type(error).__name__}: {error}, before the step's moves were made") from error
