"""From a step plan to the model's inputs, without a loop over rows or tokens.

Shapes: S rows of the plan, T tokens of all rows, R rows that are sampled, U tokens that
are not known on the host, N slots.
"""

from dataclasses import dataclass

import numpy as np
import torch

from infergc.sched.plan import FROM_DEVICE, I32, StepPlan
from infergc.worker.device import Device


@dataclass(frozen=True, slots=True)
class Batch:
    """A step's inputs: tensors where the model is, arrays on the host."""

    token_ids_T: torch.Tensor  # int64
    positions_T: torch.Tensor  # int64, absolute
    sampled_R: I32  # rows of the plan that are sampled
    last_tokens_R: torch.Tensor  # int64, where among the T tokens the last of each sampled row stands
    slots_R: I32  # slots of the sampled rows
    at_slots_R: torch.Tensor  # the same, int64
    next_positions_R: I32  # absolute position of the token to be sampled


def build_batch(plan: StepPlan, latest_N: torch.Tensor, device: Device) -> Batch:
    """Lay out a plan's tokens.

    Args:
        plan: the step.
        latest_N: slot → token sampled last, int32, on the device; stands in for ``FROM_DEVICE``.
        device: where the model is.
    """
    ends_S = np.cumsum(plan.counts)
    row_T = np.repeat(np.arange(len(plan.counts)), plan.counts)
    position_T = np.arange(plan.tokens) + (plan.starts - (ends_S - plan.counts))[row_T]
    sampled_R = np.flatnonzero(plan.sample).astype(np.int32)
    slots_R = plan.slots[sampled_R]
    unknown_U = np.flatnonzero(plan.token_ids == FROM_DEVICE)
    arrays = (plan.token_ids, position_T, ends_S[sampled_R] - 1, slots_R, unknown_U, plan.slots[row_T[unknown_U]])
    tensors = device.upload([array.astype(np.int64) for array in arrays])
    token_ids_T, positions_T, last_tokens_R, at_slots_R, at_U, slots_U = tensors
    if len(at_U):
        token_ids_T[at_U] = latest_N[slots_U].long()
    next_positions_R: I32 = (plan.starts + plan.counts)[sampled_R]
    return Batch(token_ids_T, positions_T, sampled_R, last_tokens_R, slots_R, at_slots_R, next_positions_R)
