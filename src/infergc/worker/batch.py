"""From a step plan to the model's inputs, without a loop over rows or tokens.

Shapes: S rows of the plan, T tokens of all rows, R rows that are sampled.
"""

from dataclasses import dataclass

import numpy as np
import torch

from infergc.sched.plan import FROM_DEVICE, I32, StepPlan


@dataclass(frozen=True, slots=True)
class Batch:
    """A step's inputs."""

    token_ids_T: torch.Tensor  # int64
    positions_T: torch.Tensor  # int64, absolute
    sampled_R: I32  # rows of the plan that are sampled
    last_tokens_R: torch.Tensor  # int64, where among the T tokens the last of each sampled row stands
    slots_R: I32  # slots of the sampled rows
    next_positions_R: I32  # absolute position of the token to be sampled


def build_batch(plan: StepPlan, latest: I32) -> Batch:
    """Lay out a plan's tokens.

    Args:
        plan: the step.
        latest: slot → token sampled last; stands in for ``FROM_DEVICE``.
    """
    ends_S = np.cumsum(plan.counts)
    row_T = np.repeat(np.arange(len(plan.counts)), plan.counts)
    positions_T = np.arange(plan.tokens) + (plan.starts - (ends_S - plan.counts))[row_T]
    token_ids_T = np.where(plan.token_ids == FROM_DEVICE, latest[plan.slots[row_T]], plan.token_ids)
    sampled_R = np.flatnonzero(plan.sample).astype(np.int32)
    return Batch(
        token_ids_T=torch.from_numpy(token_ids_T.astype(np.int64)),
        positions_T=torch.from_numpy(positions_T.astype(np.int64)),
        sampled_R=sampled_R,
        last_tokens_R=torch.from_numpy((ends_S[sampled_R] - 1).astype(np.int64)),
        slots_R=plan.slots[sampled_R],
        next_positions_R=(plan.starts + plan.counts)[sampled_R],
    )
