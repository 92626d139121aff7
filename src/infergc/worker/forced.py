"""Forced decoding: a sampler that takes the next token from a script, and tells how likely the model found every other.

All the rest of a step is as ever: tokens are fed one by one and read KV out of pages, in whatever batch the scheduler
makes. So what a way of keeping KV does to a model is seen where texts are generated, and not in one pass over a prompt.

Shapes: S rows of a step, R of them that are forced, V vocabulary.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.config import ConfigError
from infergc.engine.scripts import Continuation, Script
from infergc.kernels.freight import Freight
from infergc.sched.plan import Binding
from infergc.worker.executor import TorchExecutor
from infergc.worker.sampler import Asked, Sampled, Sampler


@dataclass(frozen=True, slots=True)
class _AskedToo(Asked):
    """Rows of which some are forced and some are free; those are asked by themselves."""

    forced: NDArray[np.int64]
    free: NDArray[np.int64]
    others: Asked | None


class ForcedSampler(Sampler):
    """Samples as its base does, but for requests whose seed is in the script.

    Args:
        args: of the base, as are ``others``.
        script: what to force; entries may come and go between requests.
    """

    def __init__(self, *args: Any, script: Script, **others: Any) -> None:
        super().__init__(*args, **others)
        self._script = script
        self._forced: dict[int, tuple[int, Continuation]] = {}  # slot → tokens of the prompt, what follows them

    def bind(self, binding: Binding) -> None:
        """See ``Sampler``."""
        super().bind(binding)
        self._forced.pop(binding.slot, None)
        continuation = self._script.get(-1 if binding.params.seed is None else binding.params.seed)
        if continuation is not None:
            self._forced[binding.slot] = len(binding.prompt), continuation

    def lay_out(self, slots: NDArray[np.integer], positions: NDArray[np.integer], freight: Freight) -> Asked:
        """See ``Sampler``."""
        is_forced = np.array([slot in self._forced for slot in slots.tolist()], bool)
        if not is_forced.any():
            return super().lay_out(slots, positions, freight)
        free = np.flatnonzero(~is_forced)
        others = super().lay_out(slots[free], positions[free], freight) if len(free) else None
        return _AskedToo(slots, positions, freight, np.flatnonzero(is_forced), free, others)

    def sample(self, logits_SV: torch.Tensor, asked: Asked) -> Sampled:
        """See ``Sampler``."""
        if not isinstance(asked, _AskedToo):
            return super().sample(logits_SV, asked)
        device, rows, free = logits_SV.device, asked.forced, asked.free
        tokens_S = torch.empty(len(asked.slots), dtype=torch.int32, device=device)
        at_R = torch.from_numpy(rows).to(device)
        tokens_R = self._follow(logits_SV[at_R].float().log_softmax(-1), asked.slots[rows], asked.positions[rows])
        tokens_S[at_R] = torch.from_numpy(tokens_R).to(device)
        if asked.others is None:
            return Sampled(tokens_S, {}, {})
        others_R = torch.from_numpy(free).to(device)
        found = super().sample(logits_SV[others_R], asked.others)
        tokens_S[others_R] = found.tokens
        reports = {int(free[row]): report for row, report in found.reports.items()}
        return Sampled(tokens_S, reports, {int(free[row]): error for row, error in found.errors.items()})

    def _follow(
        self, logprobs_RV: torch.Tensor, slots: NDArray[np.integer], positions: NDArray[np.integer]
    ) -> NDArray[np.int32]:
        """The script's token of each row; what is planned beyond its end is of no use to anybody."""
        rows_RV = logprobs_RV.cpu().numpy()
        tokens_R = np.zeros(len(slots), np.int32)
        for row, (slot, position) in enumerate(zip(slots.tolist(), positions.tolist(), strict=True)):
            prompt, continuation = self._forced[slot]
            index = position - prompt
            if index < len(continuation.tokens):
                tokens_R[row] = continuation.tokens[index]
                continuation.take(index, rows_RV[row])
        return tokens_R


def force(executor: TorchExecutor) -> Script:
    """Have an executor without storage follow a script, which is returned empty.

    Raises:
        ConfigError: the executor has no sampler of this kind.
    """
    if not isinstance(executor, TorchExecutor):
        raise ConfigError(f"--executor: {type(executor).__name__} runs no model: there is nothing to force a text on")
    script: Script = {}
    executor.sampler = partial(ForcedSampler, script=script)
    return script
