"""What steps do to each other's pages, as plans by hand: each scene needs one of the worker's waits, and tells a text.

A page that is not what it should be gives another text than the host's. A mutation leaves out one wait.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import current_thread
from typing import Any

import numpy as np
import pytest

from cpu.lazy_device import LazyDevice
from cpu.lazy_streams import COPIER, WORKER, Event
from cpu.plans import GREEDY, Planner, Row
from infergc.heap.moves import Move
from infergc.sched.plan import FROM_DEVICE, Binding, StepOutcome, StepPlan
from infergc.worker import runner
from infergc.worker.devices import cuda_device
from infergc.worker.devices.device import Fence
from infergc.worker.executor import TorchExecutor
from infergc.worker.flight import StepFlight
from infergc.worker.runner import StepLanding

TOKENS = 16  # of a page
TEXT = [3, 50, 7, 11, 90, 22, 64, 35, 8, 41, 77, 19, 120, 5, 101, 66, 2, 14, 88, 31]  # a page, and some
OTHER = [token + 1 for token in reversed(TEXT)]
SLOTS, PAGES = 4, 4  # and of each slot


class Stage:
    """An executor with storage for SLOTS texts, PAGES each, and a host tier.

    Args:
        executor: of a model with one layer group.
    """

    def __init__(self, executor: TorchExecutor) -> None:
        self.executor = executor
        self._planner = Planner(executor.facts.groups, TOKENS, SLOTS, PAGES * TOKENS)
        executor.allocate(self._planner.groups, SLOTS, host_slots=4)
        self.land(self.plan([Row(slot, 0, [1], sample=False) for slot in range(SLOTS)], bind=True))

    def plan(self, rows: list[Row], *moves: Move, bind: bool = False) -> StepPlan:
        bindings = tuple(
            Binding(row.slot, GREEDY, np.array(TEXT, np.int32), np.zeros(0, np.int32)) for row in rows if bind
        )
        return replace(self._planner.plan(rows, bindings), moves=moves)

    def launch(self, plan: StepPlan) -> StepFlight:
        return self.executor.launch(plan)

    def land(self, plan: StepPlan) -> StepOutcome:
        return self.launch(plan).result()

    def beside(self, *moves: Move) -> StepPlan:
        """A step for its moves, which computes something else."""
        return self.plan([Row(3, 0, OTHER, sample=True)], *moves)

    def write_page(self, slot: int, text: list[int]) -> None:
        """Compute the first page of a text: a chunk, of which nothing is sampled."""
        self.land(self.plan([Row(slot, 0, text[:TOKENS], sample=False)]))

    def go_on(self, slot: int, *moves: Move) -> list[int]:
        """What a slot says whose first page holds TEXT's, once the moves were made."""
        said = self.land(self.plan([Row(slot, TOKENS, TEXT[TOKENS:], sample=True)], *moves)).tokens.tolist()
        for at in range(len(TEXT), len(TEXT) + 5):
            said += self.land(self.plan([Row(slot, at, [FROM_DEVICE], sample=True)])).tokens.tolist()
        return [int(token) for token in said]


def page(slot: int) -> int:
    """The first of a slot's."""
    return (SLOTS - 1 - slot) * PAGES


def copy(from_slot: int, to_slot: int) -> Move:
    return Move("copy", 0, page(from_slot), page(to_slot), TOKENS)


def store(slot: int, host: int) -> Move:
    return Move("store", 0, page(slot), host, TOKENS)


def load(host: int, slot: int) -> Move:
    return Move("load", 0, host, page(slot), TOKENS)


# ---- scenes


def moved_then_stored(stage: Stage) -> list[int]:
    """A step moves a page, the next one stores it from where it went; both are in flight."""
    stage.write_page(0, TEXT)
    flights = [stage.launch(stage.beside(copy(0, 1))), stage.launch(stage.beside(store(1, 0)))]
    for flight in reversed(flights):  # or the first might be waited for before the second is given
        flight.result()
    return stage.go_on(2, load(0, 2))


def loaded_then_read(stage: Stage) -> list[int]:
    """A step reads a page that is loaded for it."""
    stage.write_page(0, TEXT)
    stage.land(stage.beside(store(0, 0)))
    return stage.go_on(2, load(0, 2))


def stored_then_written_over(stage: Stage) -> list[int]:
    """A step writes to a page that is stored before."""
    stage.write_page(0, TEXT)
    stage.write_page(1, OTHER)
    stage.land(stage.beside(store(0, 0), copy(1, 0)))
    return stage.go_on(2, load(0, 2))


def computed_then_stored(stage: Stage) -> list[int]:
    """A chunk of a prompt, of which nothing is sampled, writes a page, and the step after it has landed stores it."""
    stage.write_page(0, TEXT)
    stage.write_page(0, OTHER)
    stage.write_page(0, TEXT)
    stage.land(stage.beside(store(0, 0)))
    return stage.go_on(2, load(0, 2))


def failed_then_loaded(stage: Stage) -> list[int]:
    """A step fails when its forward pass was given to the device; the page that it writes is loaded to."""
    stage.write_page(0, TEXT)
    stage.land(stage.beside(store(0, 0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.executor._runner._sampler, "sample", _refuse)
        with pytest.raises(MemoryError):
            stage.land(stage.plan([Row(2, 0, OTHER, sample=True)]))
    return stage.go_on(2, load(0, 2))


def launched_together(stage: Stage) -> list[int]:
    """All steps are given before one is waited for: more than there are stages for what they have to know."""
    rows = [Row(0, 0, TEXT, sample=True), *(Row(0, len(TEXT) + at, [FROM_DEVICE], sample=True) for at in range(9))]
    flights = [stage.launch(stage.plan([row])) for row in rows]
    flights[-1].result()
    return [int(token) for flight in flights for token in flight.result().tokens]


def left_alone(stage: Stage) -> list[int]:
    """Between two steps all is done that was ever given to the device."""
    stage.write_page(2, TEXT)
    if isinstance(stage.executor.device, LazyDevice):
        for stream in stage.executor.device.machine.streams:
            stage.executor.device.machine.run(stream, stream.given)
    return stage.go_on(2)


def _refuse(*_: Any) -> None:
    raise MemoryError("no memory, for a test")


SCENES: tuple[Callable[[Stage], list[int]], ...] = (
    moved_then_stored, loaded_then_read, stored_then_written_over, computed_then_stored, failed_then_loaded,
    launched_together, left_alone,
)  # fmt: skip


# ---- mutations: each leaves out one wait


class Untimed(LazyDevice):
    """Times are told of what is not done, too: a wait that is left out is to be seen by what is computed."""

    def seconds(self, began: Fence, ended: Fence) -> float:
        return 0.0


class CopierWaitsForNothing(Untimed):
    def wait(self, fence: Fence) -> None:
        if not current_thread().name.startswith(COPIER):
            super().wait(fence)


class WorkerWaitsForNothing(Untimed):
    def wait(self, fence: Fence) -> None:
        if not current_thread().name.startswith(WORKER):
            super().wait(fence)


class NothingIsSettled(Untimed):
    def settle(self, fence: Fence) -> None:
        if current_thread().name.startswith(WORKER):
            super().settle(fence)


class EntersAtOnce(Untimed):
    def enter(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.cuda.synchronize", lambda: None)
            super().enter()


@dataclass(frozen=True)
class Mutation:
    """The engine without one of its waits.

    Attributes:
        name: what is left out.
        scenes: that need it.
        device: in place of ``LazyDevice``.
        patches: module or class, attribute, and what stands there instead.
    """

    name: str
    scenes: tuple[Callable[[Stage], list[int]], ...]
    device: type[LazyDevice] = Untimed
    patches: tuple[tuple[Any, str, Any], ...] = field(default=())


def _lands_unsettled(landing: StepLanding) -> StepOutcome:
    """``StepLanding.outcome`` that waits for tokens alone."""
    with pytest.MonkeyPatch.context() as patch:
        if landing.sampled.tokens_R is None:
            patch.setattr(type(landing.device), "settle", lambda *_: None)
        return _OUTCOME(landing)


def _reserves_at_once(stage: Any, size: int) -> Any:
    """``_Stage.reserve`` that waits for no copy."""
    stage.free = Event(stage.free.machine)
    return _RESERVE(stage, size)


_OUTCOME, _RESERVE = StepLanding.outcome, cuda_device._Stage.reserve
MUTATIONS = (
    Mutation("the copier does not wait for the moves of the step before", (moved_then_stored,), CopierWaitsForNothing),
    Mutation(
        "the worker does not wait for the copies of its step", (loaded_then_read, stored_then_written_over),
        WorkerWaitsForNothing,
    ),
    Mutation("nobody waits for the end of a step", (loaded_then_read, launched_together), NothingIsSettled),
    Mutation(
        "nobody waits for the end of a step that samples nothing", (computed_then_stored,),
        patches=((StepLanding, "outcome", _lands_unsettled),),
    ),
    Mutation(
        "the worker writes to pinned memory that is still copied", (launched_together,),
        patches=((cuda_device._Stage, "reserve", _reserves_at_once),),
    ),
    Mutation(
        "a step that fails does not wait for what it gave", (failed_then_loaded,),
        patches=((runner, "drain", lambda _: None),),
    ),
    Mutation("a thread enters before memory is filled", (left_alone,), EntersAtOnce),
)  # fmt: skip
