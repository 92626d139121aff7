"""Logit bias: numbers that requests add to the logits of single tokens.

Shapes: S rows of a step, V vocabulary, H single logits.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.kernels.freight import Freight, Parcel
from infergc.worker.sampling.entries import SlotEntries


class Biased(NamedTuple):
    """A step's logits that have a bias.

    Attributes:
        at_2H: their rows and tokens, int64; none twice.
        values_H: what is added, float32.
    """

    at_2H: Parcel
    values_H: Parcel


class Bias:
    """The biases of slots."""

    def __init__(self, max_num_seqs: int) -> None:
        self._entries = SlotEntries(max_num_seqs)

    def bind(self, slot: int, logit_bias: Mapping[int, float]) -> None:
        """Give the slot to a request."""
        self._entries.set(slot, logit_bias)

    def lay_out(self, slots: NDArray[np.integer], freight: Freight) -> Biased | None:
        """Prepare ``add`` for the rows of a step; None: nothing is added."""
        hits = self._entries.at(slots)
        if hits is None:
            return None
        rows, tokens, values = hits
        return Biased(freight.add(np.stack((rows, tokens))), freight.add(values.astype(np.float32)))

    def add(self, logits_SV: torch.Tensor, biased: Biased | None) -> None:
        """Add, in place, to float32 logits; the freight has left."""
        if biased is not None:
            rows_H, tokens_H = biased.at_2H.tensor
            logits_SV[rows_H, tokens_H] += biased.values_H.tensor
