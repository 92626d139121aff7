"""The draw: temperature, truncation and inverse CDF, each row on its own.

Shapes: R rows, V vocabulary, P rows still without a cutoff, K candidates.

Probabilities are integers here: a token's weight is exp(x - max x) in units of 2^-40. Sums of integers
are exact in any order, so a row's result cannot depend on how a kernel splits its sums, and that is what
makes the draw the same alone and in a batch, and anywhere where weights are the same: exp may differ in its
last bit between devices. A token less likely than 2^-40 of the likeliest is never drawn.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.kernels.freight import Freight, Parcel
from infergc.worker.sampling.knobs import Knobs
from infergc.worker.sampling.pieces import at_once, pieces

MAX_VOCAB = 1 << 22  # weights of at most 2^40 sum within 63 bits
_ONE = 2.0**40
_FIRST_CANDIDATES = 64  # a nucleus or top-k is nearly always inside; else eight times more are looked at


class Ranked(NamedTuple):
    """Those of a few rows that have top-k or top-p.

    Attributes:
        rows_P: int64.
        k_P, p_P: int64 and float64.
        near: whether every k is within the first candidates, so that no more are needed.
    """

    rows_P: Parcel
    k_P: Parcel
    p_P: Parcel
    near: bool


class Drawing(NamedTuple):
    """A few neighbouring rows that are drawn at once, and their knobs on the way to where the logits are.

    Attributes:
        first, end: the rows.
        temperature_R1: above 0, float32.
        u_R1: uniform numbers in [0, 1), float64.
        floor_R: float32: the least distance from the likeliest token's logit that min-p keeps; None: nobody asks.
        ranked: rows with top-k or top-p, counted from ``first``; None: there are none.
    """

    first: int
    end: int
    temperature_R1: Parcel
    u_R1: Parcel
    floor_R: Parcel | None
    ranked: Ranked | None


def lay_out_draws(knobs: Knobs, u_R: NDArray[np.float64], vocab_size: int, freight: Freight) -> list[Drawing]:
    """Prepare ``draw``: what it has to know goes by the freight.

    Args:
        knobs: R rows, temperatures above 0.
        u_R: uniform numbers in [0, 1).
        vocab_size: V.
        freight: to where the logits will be.
    """
    return [
        _lay_out(knobs.take(rows), u_R[rows], int(rows[0]), vocab_size, freight)
        for rows in pieces(np.arange(len(u_R)), vocab_size, at_once(freight.place))
    ]


def _lay_out(knobs: Knobs, u_R: NDArray[np.float64], first: int, vocab_size: int, freight: Freight) -> Drawing:
    at_P = np.flatnonzero((knobs.top_k < vocab_size) | (knobs.top_p < 1.0))
    floor, ranked = None, None
    if len(at_P) or knobs.min_p.any():
        with np.errstate(divide="ignore"):
            floor = freight.add(np.log(knobs.min_p).astype(np.float32))
    if len(at_P):
        k_P, p_P = knobs.top_k[at_P], knobs.top_p[at_P]
        near = bool((k_P <= _FIRST_CANDIDATES).all())
        ranked = Ranked(freight.add(at_P), freight.add(k_P), freight.add(p_P), near)
    temperature, u = freight.add(knobs.temperature[:, None]), freight.add(u_R[:, None])
    return Drawing(first, first + len(u_R), temperature, u, floor, ranked)


def draw(logits_RV: torch.Tensor, drawings: Sequence[Drawing]) -> torch.Tensor:
    """Sample one token a row from softmax(logits / temperature), truncated by top-k, top-p and min-p.

    The filters work in this order, as in transformers: top-k; top-p over what top-k left, renormalised;
    min-p relative to the likeliest. A filter is a least value that a token's logit must have, so tokens
    that tie with the last one kept are kept too.

    Args:
        logits_RV: float32.
        drawings: of all rows; the freight has left.

    Returns:
        ids_R, int64: the first id, in the order of ids, at which the cumulated probability exceeds u.
        A row that holds NaN gives some valid id.
    """
    return torch.cat([_draw(logits_RV[each.first : each.end], each) for each in drawings])


def _draw(logits_RV: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    weight_RV = truncated_weights(logits_RV, drawing)
    cdf_RV = weight_RV.cumsum(-1)
    total_R1 = cdf_RV[:, -1:]
    # u × total is rounded to 53 bits: it could reach the total
    target_R1 = torch.minimum((drawing.u_R1.tensor * total_R1).long(), total_R1 - 1)
    ids_R = torch.searchsorted(cdf_RV, target_R1, right=True).squeeze(1)
    return ids_R.clamp_(max=logits_RV.shape[1] - 1)


def truncated_weights(logits_RV: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """Weights as int64 in units of 2^-40 of the likeliest token's; 0 for tokens that are filtered out."""
    # the maximum goes first, so that a tiny temperature gives -inf and not inf - inf
    x_RV = logits_RV - logits_RV.amax(-1, keepdim=True)
    x_RV /= drawing.temperature_R1.tensor
    weight_RV = (x_RV.exp() * _ONE).long()
    if drawing.floor_R is not None:
        floor_R = drawing.floor_R.tensor
        if drawing.ranked is not None:
            _raise_to_rank(floor_R, x_RV, weight_RV, drawing.ranked)
        weight_RV.masked_fill_(x_RV < floor_R.unsqueeze(1), 0)
    return weight_RV


def _raise_to_rank(floor_R: torch.Tensor, x_RV: torch.Tensor, weight_RV: torch.Tensor, ranked: Ranked) -> None:
    """Raise the least value kept in the ranked rows to what top-k and then top-p keep.

    A device is waited for once a round, to learn which rows need more candidates; not where that is known before.
    """
    rows_P, k_P, p_P = (parcel.tensor for parcel in ranked[:3])
    width = _FIRST_CANDIDATES
    while True:
        least_P, done_P = _ranked_floor(_select(x_RV, rows_P), _select(weight_RV, rows_P), k_P, p_P, width)
        floor_R[rows_P] = torch.maximum(floor_R[rows_P], torch.where(done_P, least_P, -math.inf))
        if ranked.near:
            return
        left = (~done_P).nonzero().squeeze(1)
        if not len(left):
            return
        rows_P, k_P, p_P = rows_P[left], k_P[left], p_P[left]
        width *= 8


def _ranked_floor(
    x_PV: torch.Tensor, weight_PV: torch.Tensor, k_P: torch.Tensor, p_P: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least values kept by top-k and then top-p, as far as the ``width`` likeliest tokens tell.

    Returns:
        (least_P, done_P): where done is false, more candidates are needed.
    """
    vocab_size = x_PV.shape[1]
    width = min(width, vocab_size)
    x_PK, ids_PK = x_PV.topk(width)
    in_top_k_PK = torch.arange(width, device=x_PV.device) < k_P.unsqueeze(1)
    weight_PK = weight_PV.gather(1, ids_PK) * in_top_k_PK
    cdf_PK = weight_PK.cumsum(-1)
    # without top-k the total is known at once; with it, when the k-th is among the candidates
    total_P = torch.where(k_P < vocab_size, cdf_PK[:, -1], weight_PV.sum(-1))
    in_nucleus_PK = cdf_PK - weight_PK < (p_P * total_P).unsqueeze(1)
    kept_P = (in_nucleus_PK & in_top_k_PK).sum(-1)
    least_P = x_PK.gather(1, (kept_P - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
    done_P = (k_P <= width) | ((k_P == vocab_size) & (kept_P < width))
    return least_P, done_P


def _select(values_RV: torch.Tensor, rows_P: torch.Tensor) -> torch.Tensor:
    return values_RV if len(rows_P) == len(values_RV) else values_RV.index_select(0, rows_P)
