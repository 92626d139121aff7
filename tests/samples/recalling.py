"""A model without weights, under the simulator's clock, that says what followed the last few tokens before."""

from typing import Any

import numpy as np

from infergc.config import EngineConfig
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim.executor import SimExecutor
from infergc.sim.hf_geometry import read_geometry

NAME = f"{__name__}:create_executor"
FORGETFUL = f"{__name__}:create_forgetful"
MATCH = 5  # tokens


class RecallingExecutor(SimExecutor):
    """Continues by induction on ids; forgets all before ``remembers`` of a text, a share."""

    remembers = 0.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._texts: dict[int, list[int]] = {}
        self._outcome = self._recall

    def launch(self, plan: StepPlan) -> Any:
        for binding in plan.bindings:
            self._texts[binding.slot] = [*binding.prompt.tolist(), *binding.output.tolist()]
        return super().launch(plan)

    def _recall(self, plan: StepPlan) -> StepOutcome:
        tokens = np.full(len(plan.slots), -1, np.int32)
        for row in np.flatnonzero(plan.sample):
            slot, end = int(plan.slots[row]), int(plan.starts[row] + plan.counts[row])
            text = self._texts[slot] = self._texts[slot][:end]
            tokens[row] = self._next(text)
            text.append(int(tokens[row]))
        return StepOutcome(plan.step, tokens, {})

    def _next(self, text: list[int]) -> int:
        last, begin = text[-MATCH:], int(len(text) * self.remembers)
        for at in range(len(text) - 1, begin + MATCH, -1):
            if text[at - MATCH : at] == last:
                return text[at]
        return self.facts.eos_ids[0]


class ForgetfulExecutor(RecallingExecutor):
    remembers = 0.5


def create_executor(config: EngineConfig) -> RecallingExecutor:
    return _make(RecallingExecutor, config)


def create_forgetful(config: EngineConfig) -> RecallingExecutor:
    return _make(ForgetfulExecutor, config)


def _make(kind: type[RecallingExecutor], config: EngineConfig) -> RecallingExecutor:
    model = read_geometry(config.model / "config.json")
    return kind(model.facts(config.block_size, model.vocab, model.eos_ids))
