"""A forward pass under ``--heap-debug``: what it did to storage, and whether it read what nobody wrote.

Shapes: S rows of the plan, T tokens, E hidden.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from infergc.heap.errors import Finding, StorageCorruption
from infergc.kernels.freight import Freight
from infergc.sched.plan import StepPlan
from infergc.worker.debug.guarded import GuardedStorage
from infergc.worker.layers import Compute, Forward

BAND_STEPS = 4  # steps between two looks at the bands: whoever wrote there ran in one of so many


class GuardedForward:
    """Implements ``layers.Forward`` by another one and fails the step where storage was misused.

    A hidden state that is NaN means that its row read a page that is not its own: poison, or a band. A slot once sick
    is not reported again until it is bound to another request. Slots of the step after one that was lost or failed
    count as sick: what that should have written is missing, and its requests end with it.
    """

    def __init__(
        self,
        forward: Forward,
        storage: GuardedStorage,
        band_steps: int = BAND_STEPS,
    ) -> None:
        self._forward = forward
        self._storage = storage
        self._band_steps = band_steps
        self._steps = 0
        self._next = 0  # step
        self._sick: set[int] = set()  # slots whose KV is not whole

    def __call__(self, plan: StepPlan, freight: Freight) -> Compute:
        """Plan a step. To compute it raises StorageCorruption: what moves, reads or writes were found to do."""
        compute = self._forward(plan, freight)
        return lambda token_ids_T, positions_T: self._look_after(plan, partial(compute, token_ids_T, positions_T))

    def _look_after(self, plan: StepPlan, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Compute a step.

        Raises:
            StorageCorruption: what its moves, its reads or its writes, or those of the steps before, were found to do.
        """
        if plan.step != self._next:
            self._sick.update(plan.slots.tolist())
        self._sick.difference_update(binding.slot for binding in plan.bindings)
        hidden_TE = compute()
        self._next = plan.step + 1
        findings = [*self._storage.take_findings(), *self._poisoned_rows(plan, hidden_TE), *self._breaches()]
        if findings:
            raise StorageCorruption(findings)
        return hidden_TE

    def _breaches(self) -> list[Finding]:
        self._steps += 1
        return [] if self._steps % self._band_steps else self._storage.breaches()

    def _poisoned_rows(self, plan: StepPlan, hidden_TE: torch.Tensor) -> list[Finding]:
        nan_T = hidden_TE.isnan().any(1)
        if not nan_T.any():
            return []
        rows = np.unique(np.repeat(np.arange(len(plan.counts)), plan.counts)[nan_T.numpy()])
        fresh = [row for row in rows.tolist() if int(plan.slots[row]) not in self._sick]
        self._sick.update(plan.slots[rows].tolist())
        return [self._storage.poison_in_reach(plan, row) or _without_poison(row) for row in fresh]


def _without_poison(row: int) -> Finding:
    what = f"row {row} computes NaN, but all pages in its reach were written: read elsewhere, or the model's own NaN"
    return Finding(what, row=row)
