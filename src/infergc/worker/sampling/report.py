"""The report of log probabilities for the rows that ask for it.

Shapes: R rows, V vocabulary, K the most tokens any row reports.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.sched.plan import TokenLogprobs


def report(logits_RV: torch.Tensor, tokens_R: torch.Tensor, counts_R: NDArray[np.int64]) -> list[TokenLogprobs]:
    """Log probabilities (natural, of softmax(logits)) of the sampled tokens and of the likeliest ones.

    Args:
        logits_RV: float32, after penalties and bias, before temperature and truncation.
        tokens_R: the sampled ids.
        counts_R: how many of the likeliest tokens each row wants, ≥ 0.

    A token's rank is 1 + the number of tokens strictly likelier. A token of logit -inf, which cannot be drawn, is not
    reported.
    """
    lp_RV = logits_RV.log_softmax(-1)
    sampled_R1 = lp_RV.gather(1, tokens_R.long().unsqueeze(1))
    ranks_R = (lp_RV > sampled_R1).sum(-1) + 1
    top_RK, ids_RK = lp_RV.topk(min(int(counts_R.max()), lp_RV.shape[1]))
    kept_R = np.minimum(counts_R, top_RK.isfinite().sum(-1).cpu().numpy())
    columns = sampled_R1.squeeze(1).tolist(), ranks_R.tolist(), ids_RK.tolist(), top_RK.tolist(), kept_R.tolist()
    return [
        TokenLogprobs(sampled, rank, tuple(ids[:count]), tuple(top[:count]))
        for sampled, rank, ids, top, count in zip(*columns, strict=True)
    ]
