"""Masks of tokens as bits, and the logits that they ban.

Shapes: S rows of a step, C of them with a mask, V vocabulary; W words of 32 bits, B bytes of 8, the lowest bit first.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.kernels.freight import Freight
from infergc.worker.sampling.pieces import at_once, pieces


def ban(logits_SV: torch.Tensor, rows_C: NDArray[np.int64], banned_CW: NDArray[np.int32], freight: Freight) -> None:
    """Give -inf, in place, to the tokens of rows whose bits are set.

    Args:
        logits_SV: float32.
        rows_C: distinct.
        banned_CW: a bit for each token, and perhaps for more than there are.
        freight: to where the logits are; it leaves with the masks.
    """
    if logits_SV.device.type == "cpu":
        _ban_here(logits_SV, rows_C, banned_CW)
    else:
        ban_there(logits_SV, rows_C, banned_CW, freight)


def _ban_here(logits_SV: torch.Tensor, rows_C: NDArray[np.int64], banned_CW: NDArray[np.int32]) -> None:
    bits_CV = np.unpackbits(banned_CW.view(np.uint8), axis=1, count=logits_SV.shape[1], bitorder="little")
    banned_CV = torch.from_numpy(bits_CV.view(np.bool_))
    for row, banned_V in zip(rows_C.tolist(), banned_CV, strict=True):  # in place: copies took twice as long
        logits_SV[row].masked_fill_(banned_V, -math.inf)


def ban_there(
    logits_SV: torch.Tensor, rows_C: NDArray[np.int64], banned_CW: NDArray[np.int32], freight: Freight
) -> None:
    """See ``ban``: bits go to a device, in one copy, and become bytes there. On the host it takes longer."""
    bytes_CB, vocab_size = banned_CW.view(np.uint8), logits_SV.shape[1]
    sent = [
        (freight.add(rows_C[piece]), freight.add(bytes_CB[piece]))
        for piece in pieces(np.arange(len(rows_C)), vocab_size, at_once(freight.place))
    ]
    freight.send()
    shifts_8 = torch.arange(8, dtype=torch.uint8, device=logits_SV.device)
    for rows, packed in sent:
        bits_CB8 = (packed.tensor.unsqueeze(-1) >> shifts_8) & 1
        banned_CV = bits_CB8.flatten(1)[:, :vocab_size].bool()
        logits_CV = logits_SV.index_select(0, rows.tensor).masked_fill_(banned_CV, -math.inf)
        logits_SV.index_copy_(0, rows.tensor, logits_CV)
