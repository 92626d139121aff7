"""``min_tokens``: end tokens that may not come yet.

Shapes: S rows of a step, V vocabulary, H single logits.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.kernels.freight import Freight, Parcel
from infergc.sched.plan import Binding
from infergc.worker.sampling.entries import SlotEntries


class EarlyEnds:
    """The end tokens of slots, and from which position on each may come.

    Args:
        max_num_seqs: slots 0 … max_num_seqs - 1.
        eos_ids: the model's end tokens; a request's stop ids are beside them.
    """

    def __init__(self, max_num_seqs: int, eos_ids: tuple[int, ...]) -> None:
        self._eos_ids = eos_ids
        self._entries = SlotEntries(max_num_seqs)  # value: the first position where the token is allowed

    def bind(self, binding: Binding) -> None:
        """Give the slot to a request."""
        params = binding.params
        # A beam search sees to its ends itself: their probability is not shared out among other tokens.
        ban = params.min_tokens and not params.use_beam_search
        ends = {*self._eos_ids, *params.stop_token_ids} if ban else ()
        self._entries.set(binding.slot, dict.fromkeys(ends, float(len(binding.prompt) + params.min_tokens)))

    def lay_out(self, slots: NDArray[np.integer], positions: NDArray[np.integer], freight: Freight) -> Parcel | None:
        """Prepare ``ban`` for the rows of a step.

        Args:
            slots: [S].
            positions: [S] absolute position of the token to be sampled.
            freight: to where the logits will be.

        Returns:
            rows and tokens that are banned, [2, H], int64; None: there are none.
        """
        hits = self._entries.at(slots)
        if hits is None:
            return None
        rows, tokens, allowed_from = hits
        early = positions[rows] < allowed_from
        return freight.add(np.stack((rows[early], tokens[early]))) if early.any() else None

    @staticmethod
    def ban(logits_SV: torch.Tensor, early_2H: Parcel | None) -> None:
        """Give them -inf, in place; the freight has left."""
        if early_2H is not None:
            rows_H, tokens_H = early_2H.tensor
            banned = logits_SV.new_full((), -math.inf)  # made there: to assign a number is to wait for its copy
            logits_SV.index_put_((rows_H, tokens_H), banned)
