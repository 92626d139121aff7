"""From a step plan to the model's inputs, without a loop over rows or tokens.

Shapes: S rows of the plan, T tokens of all rows, R rows that are sampled, U tokens that
are not known on the host, N slots.
"""

from dataclasses import dataclass

import numpy as np
import torch

from infergc.kernels.freight import Freight, Parcel
from infergc.sched.plan import FROM_DEVICE, I32, StepPlan


@dataclass(frozen=True, slots=True)
class Batch:
    """A step's inputs: arrays on the host, and int64 on their way to where the model is."""

    known_T: Parcel  # token ids, ``FROM_DEVICE`` where they are not known
    positions_T: Parcel  # absolute
    sampled_R: I32  # rows of the plan that are sampled
    last_tokens_R: Parcel  # where among the T tokens the last of each sampled row stands
    slots_R: I32  # slots of the sampled rows
    at_slots_R: Parcel  # the same
    next_positions_R: I32  # absolute position of the token to be sampled
    unknown_U: tuple[Parcel, Parcel] | None  # where among the T tokens, and whose slots; None: there is none

    def token_ids(self, latest_N: torch.Tensor) -> torch.Tensor:
        """The step's tokens, int64, [T], once the freight has left.

        Args:
            latest_N: slot → token sampled last, int32, on the device; stands in for ``FROM_DEVICE``.
        """
        token_ids_T = self.known_T.tensor
        if self.unknown_U is not None:
            at_U, slots_U = self.unknown_U
            token_ids_T[at_U.tensor] = latest_N[slots_U.tensor].long()
        return token_ids_T


def lay_out_batch(plan: StepPlan, freight: Freight) -> Batch:
    """Lay out a plan's tokens; what the device has to know of them goes by the freight."""
    ends_S = np.cumsum(plan.counts)
    row_T = np.repeat(np.arange(len(plan.counts)), plan.counts)
    position_T = np.arange(plan.tokens) + (plan.starts - (ends_S - plan.counts))[row_T]
    sampled_R = np.flatnonzero(plan.sample).astype(np.int32)
    slots_R = plan.slots[sampled_R]
    unknown_U = np.flatnonzero(plan.token_ids == FROM_DEVICE)
    arrays = (plan.token_ids, position_T, ends_S[sampled_R] - 1, slots_R)
    token_ids_T, positions_T, last_tokens_R, at_slots_R = (freight.add(array.astype(np.int64)) for array in arrays)
    unknown = None
    if len(unknown_U):
        unknown = freight.add(unknown_U), freight.add(plan.slots[row_T[unknown_U]].astype(np.int64))
    next_positions_R: I32 = (plan.starts + plan.counts)[sampled_R]
    return Batch(
        token_ids_T, positions_T, sampled_R, last_tokens_R, slots_R, at_slots_R, next_positions_R, unknown
    )  # fmt: skip
