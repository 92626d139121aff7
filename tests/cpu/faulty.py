"""The executor of a real model, in which steps fail for some prompts: for soaks. Ids of prompts say which."""

from dataclasses import dataclass
from typing import Any

from infergc.config import EngineConfig
from infergc.heap.errors import StorageLost
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.worker import factory
from infergc.worker.executor import TorchExecutor

NAME = f"{__name__}:create_executor"
# A prompt that begins with this id fails its steps: all of them, or the one it starts in; or a page is lost then.
ALWAYS, ONCE, LOSES = 7, 9, 10
EVERY = 3  # of the starts of a prompt of the second kind fails
APART = 100  # steps from one lost page to the next: an engine that always loses some ends


@dataclass
class Failed:
    """A step that is carried out, and then fails."""

    flight: Any
    error: Exception

    def result(self) -> StepOutcome:
        self.flight.result()
        raise self.error


class Faults:
    """Decides by a step's rows whether it fails, before it is carried out or after it."""

    def __init__(self, executor: TorchExecutor) -> None:
        self._launch = executor.launch
        self._poisoned: set[int] = set()  # slots
        self._starts = 0
        self._since = 0  # steps since a page was lost

    def launch(self, plan: StepPlan) -> Any:
        starting, self._since = self._bound(plan), self._since + 1
        self._starts += ONCE in starting
        fails = ONCE in starting and self._starts % EVERY == 0
        fails = fails or not self._poisoned.isdisjoint(plan.slots.tolist())
        if fails and plan.step % 2:
            raise MemoryError("no memory at the start, for a test")
        flight = self._launch(plan)
        if LOSES in starting and self._since > APART:
            self._since = 0
            return Failed(flight, StorageLost("a page could not be moved, for a test"))
        return Failed(flight, MemoryError("no memory, for a test")) if fails else flight

    def _bound(self, plan: StepPlan) -> set[int]:
        """Note whose slots are whose; first ids of the prompts that start."""
        for binding in plan.bindings:
            is_poison = int(binding.prompt[0]) == ALWAYS
            (self._poisoned.add if is_poison else self._poisoned.discard)(binding.slot)
        return {int(binding.prompt[0]) for binding in plan.bindings}


def create_executor(config: EngineConfig) -> TorchExecutor:
    executor = factory.create_executor(config)
    executor.launch = Faults(executor).launch
    return executor
