"""The simulated executor on a real clock, with prompts that make it fail: for tests of what happens meanwhile."""

import os
import time
from dataclasses import dataclass

from infergc.config import EngineConfig
from infergc.heap.errors import StorageLost
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim import executor as sim

NAME = f"{__name__}:create_executor"
DAWDLING = f"{__name__}:create_dawdling"
SLOW_START = f"{__name__}:create_after_a_minute"
STEP_SECONDS = 0.001
DAWDLE_SECONDS = 0.02  # a step, for what must still run when a test gets round to it: 900 tokens take 18 s
# A prompt that begins with this id loses what is stored, every other time; fails its step; ends the process.
LOSES, FAILS, DIES = 6, 7, 8


@dataclass
class SlowFlight:
    outcome: StepOutcome
    lands: float
    error: Exception | None

    def result(self) -> StepOutcome:
        time.sleep(max(0.0, self.lands - time.monotonic()))
        if self.error is not None:
            raise self.error
        return self.outcome


class SlowSim(sim.SimExecutor):
    """Steps take time, one after the other."""

    pause = STEP_SECONDS
    _lands = 0.0
    _loses = True

    def launch(self, plan: StepPlan) -> SlowFlight:
        first_ids = {int(binding.prompt[0]) for binding in plan.bindings}
        if DIES in first_ids:
            os._exit(3)
        self._lands = max(self._lands, time.monotonic()) + self.pause
        return SlowFlight(super().launch(plan).result(), self._lands, self._error(first_ids))

    def _error(self, first_ids: set[int]) -> Exception | None:
        if LOSES in first_ids:
            loses, self._loses = self._loses, not self._loses
            return StorageLost("a page could not be moved, for a test") if loses else None
        return RuntimeError("out of memory, for a test") if FAILS in first_ids else None


def create_executor(config: EngineConfig) -> SlowSim:
    return SlowSim(sim.create_executor(config).facts)


def create_dawdling(config: EngineConfig) -> SlowSim:
    executor = create_executor(config)
    executor.pause = DAWDLE_SECONDS
    return executor


def create_after_a_minute(config: EngineConfig) -> SlowSim:
    time.sleep(60)
    return create_executor(config)
