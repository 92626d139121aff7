"""The executor of a real model, in which steps fail for some prompts: for soaks. Ids of prompts say which."""

from dataclasses import dataclass
from typing import Any

from infergc.config import EngineConfig
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.worker import factory
from infergc.worker.executor import TorchExecutor

NAME = f"{__name__}:create_executor"
ALWAYS, ONCE = 7, 9  # a prompt that begins with this id fails its steps: all of them, or the one it first starts in
EVERY = 3  # of the starts of a prompt of the second kind fails


@dataclass
class Failed:
    """A step that is carried out, and then fails."""

    flight: Any

    def done(self) -> bool:
        return bool(self.flight.done())

    def result(self) -> StepOutcome:
        self.flight.result()
        raise MemoryError("no memory, for a test")


class Faults:
    """Decides by a step's rows whether it fails, before it is carried out or after it."""

    def __init__(self, executor: TorchExecutor) -> None:
        self._launch = executor.launch
        self._poisoned: set[int] = set()  # slots
        self._starts = 0

    def launch(self, plan: StepPlan) -> Any:
        fails = self._bound(plan) or not self._poisoned.isdisjoint(plan.slots.tolist())
        if fails and plan.step % 2:
            raise MemoryError("no memory at the start, for a test")
        flight = self._launch(plan)
        return Failed(flight) if fails else flight

    def _bound(self, plan: StepPlan) -> bool:
        """Note whose slots are whose; whether one starts that fails once."""
        fails = False
        for binding in plan.bindings:
            first = int(binding.prompt[0])
            (self._poisoned.add if first == ALWAYS else self._poisoned.discard)(binding.slot)
            self._starts += first == ONCE
            fails = fails or (first == ONCE and self._starts % EVERY == 0)
        return fails


def create_executor(config: EngineConfig) -> TorchExecutor:
    executor = factory.create_executor(config)
    executor.launch = Faults(executor).launch
    return executor
