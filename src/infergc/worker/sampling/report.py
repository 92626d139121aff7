"""The report of log probabilities for the rows that ask for it.

Shapes: S rows of a step, R of them, V vocabulary, K the most tokens any row reports.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.kernels.freight import Freight, Parcel
from infergc.sched.plan import TokenLogprobs
from infergc.worker.sampling.pieces import at_once, pieces


class Reported(NamedTuple):
    """A few rows of a step that are reported at once.

    Attributes:
        rows: of the step.
        at_R: the same, on the way to where the logits are; None: they are all of the step's.
        counts_R: how many of the likeliest tokens each wants, ≥ 0.
    """

    rows: list[int]
    at_R: Parcel | None
    counts_R: NDArray[np.int64]


def lay_out_reports(counts_S: NDArray[np.int64], vocab_size: int, freight: Freight) -> list[Reported]:
    """Prepare ``report_rows``.

    Args:
        counts_S: how many of the likeliest tokens each row wants; below 0: it wants no report.
        vocab_size: V.
        freight: to where the logits will be.
    """
    return [
        Reported(rows.tolist(), None if len(rows) == len(counts_S) else freight.add(rows), counts_S[rows])
        for rows in pieces(np.flatnonzero(counts_S >= 0), vocab_size, at_once(freight.place))
    ]


def report_rows(
    logits_SV: torch.Tensor, tokens_S: torch.Tensor, reported: Iterable[Reported]
) -> dict[int, TokenLogprobs]:
    """Row → its report, see ``report``; the freight has left."""
    reports: dict[int, TokenLogprobs] = {}
    for rows, at_R, counts_R in reported:
        logits_RV, tokens_R = (
            values_S if at_R is None else values_S.index_select(0, at_R.tensor) for values_S in (logits_SV, tokens_S)
        )
        reports.update(zip(rows, report(logits_RV, tokens_R, counts_R), strict=True))
    return reports


def report(logits_RV: torch.Tensor, tokens_R: torch.Tensor, counts_R: NDArray[np.int64]) -> list[TokenLogprobs]:
    """Log probabilities (natural, of softmax(logits)) of the sampled tokens and of the likeliest ones.

    Args:
        logits_RV: float32, after penalties and bias, before temperature and truncation.
        tokens_R: the sampled ids.
        counts_R: how many of the likeliest tokens each row wants, ≥ 0.

    A token's rank is 1 + the number of tokens strictly likelier. A token of logit -inf, which cannot be drawn, is not
    reported. A device is waited for once.
    """
    lp_RV = logits_RV.log_softmax(-1)
    sampled_R1 = lp_RV.gather(1, tokens_R.long().unsqueeze(1))
    ranks_R1 = (lp_RV > sampled_R1).sum(-1, keepdim=True) + 1
    top_RK, ids_RK = lp_RV.topk(min(int(counts_R.max()), lp_RV.shape[1]))
    able_R1 = top_RK.isfinite().sum(-1, keepdim=True)
    parts = sampled_R1, ranks_R1, able_R1, ids_RK, top_RK
    table = torch.cat([part.double() for part in parts], 1).cpu().numpy()  # exact: ids are far below 2^53
    return [_read(row, count) for row, count in zip(table.tolist(), counts_R.tolist(), strict=True)]


def _read(row: list[float], count: int) -> TokenLogprobs:
    sampled, rank, able, *likeliest = row
    kept, width = min(count, int(able)), len(likeliest) // 2
    ids = tuple(int(token) for token in likeliest[:kept])
    return TokenLogprobs(sampled, int(rank), ids, tuple(likeliest[width : width + kept]))
