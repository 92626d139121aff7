"""What is said of a step that failed, and which failures are refusals of memory."""

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from infergc.engine.ports import Flight
from infergc.heap.errors import StorageLost
from infergc.sched.plan import PageTable, StepOutcome, StepPlan

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# What an engine does, and so where memory may be refused: it takes commands, plans a step, has a worker compute one,
# books what came of it, and sees to its heap, its counters and its disk.
WHERES = {  # each with what is said of it
    "command": "taking it",
    "plan": "planning",
    "step": "moving pages",
    "commit": "booking a step",
    "upkeep": "seeing to the heap",
}
_ATTEMPTS = 3
_NAMES = frozenset({"MemoryError", "OutOfMemoryError"})  # Python's and numpy's; those of devices, by torch
_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")  # of torch, and of the system
_ADVICE = "a smaller --max-num-batched-tokens or --kv-cache-memory would leave more for it"


def is_refusal(error: BaseException) -> bool:
    """Whether memory was asked for and not granted. By names and words: torch is on the other side of the port."""
    named = any(kind.__name__ in _NAMES for kind in type(error).__mro__)
    return named or any(words in str(error).lower() for words in _WORDS)


def told(error: BaseException) -> str:
    """An error in words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def verdict(error: BaseException, what: str) -> str:
    """What a request is told that cannot be gone on with.

    Args:
        error: what happened.
        what: was done for it, as the subject of a sentence.
    """
    advice = f"; {_ADVICE}" if is_refusal(error) else ""
    return f"{told(error)} ({what} fails for this request alone, others go on{advice})"


def persist(attempt: Callable[[], _Result]) -> _Result:
    """Do what changes nothing where memory for it is refused, up to three times.

    Raises:
        MemoryError: it was refused each time.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return attempt()
        except MemoryError:
            _LOG.exception("memory was refused; it is tried again")
    return attempt()


def forget_frames(error: BaseException | None) -> None:
    """Let go of what an error's tracebacks hold: a step's tensors, in cycles through the future that raised it."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def log_failure(plan: StepPlan, error: BaseException, back: int, ended: int) -> None:
    """A step failed; so many of its requests run again, so many ended with it."""
    _LOG.error(
        "step %d (%d requests, %d tokens) failed: %s; %d of its requests run again, %d ended",
        plan.step, len(plan.slots), plan.tokens, told(error), back, ended,
    )  # fmt: skip


class NeverStarted:
    """The flight of a step that could not be launched, while its moves are made all the same.

    Args:
        error: why it could not be.
        moving: a step that makes its moves; None where there are none.
    """

    def __init__(self, error: Exception, moving: Flight | None) -> None:
        self._error = error
        self._moving = moving

    def result(self) -> StepOutcome:
        """Raise why the step could not be launched, once the moves were made.

        Raises:
            StorageLost: they could not be made either.
        """
        if self._moving is not None:
            try:
                self._moving.result()
            except StorageLost:
                raise
            except Exception as error:  # noqa: BLE001 - the moves of a step that fails are made
                _LOG.warning("a step of moves alone failed after they were made: %s", told(error))
        raise self._error


def moves_of(plan: StepPlan) -> StepPlan:
    """A step of no rows, for the moves of a plan alone, under its number."""
    none = np.empty(0, np.int32)
    tables = tuple(PageTable(table.first[:0], table.pages[:0], table.skipped[:0]) for table in plan.tables)
    return StepPlan(plan.step, none, none, none, none, np.empty(0, np.bool_), tables, plan.moves)
