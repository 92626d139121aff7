"""What a simulated model finds likely: reports of log probabilities drawn from a hash."""

from typing import Any

import numpy as np

from infergc.sched.plan import StepPlan, TokenLogprobs

_CANDIDATES = 1024  # ids that are told apart: the vocabulary of a simulated model may have two billion
_SPREAD = 8.0  # between the likeliest and the least likely token's logit


def reports(plan: StepPlan, counts: Any, hashes: Any, vocab_size: int) -> dict[int, TokenLogprobs]:
    """Row → the likeliest tokens after its last input; the very likeliest counts as sampled.

    Args:
        plan: of the step.
        counts: [S] tokens to report for each row, 0 for none.
        hashes: function of an array of seeds and of one of positions.
        vocab_size: ids are 0 … vocab_size - 1; those from 1,024 on are never likely.
    """
    asking = np.flatnonzero((counts > 0) & plan.sample)
    if not len(asking):
        return {}
    ends = np.cumsum(plan.counts)[asking]
    last = plan.token_ids[ends - 1].astype(np.uint64)  # nothing else of the text matters
    positions = (plan.starts + plan.counts)[asking]
    candidates = np.arange(min(vocab_size, _CANDIDATES), dtype=np.uint64)
    seeds = last[:, None] * np.uint64(vocab_size) + candidates
    logits = (hashes(seeds, positions[:, None]) >> np.uint64(40)).astype(np.float64) / 2**24 * _SPREAD
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return {
        row: _report(line, count)
        for row, line, count in zip(asking.tolist(), logprobs, counts[asking].tolist(), strict=True)
    }


def _report(logprobs: Any, count: int) -> TokenLogprobs:
    ids = np.argsort(-logprobs, kind="stable")[:count]
    values = logprobs[ids].tolist()
    return TokenLogprobs(values[0], 1, tuple(ids.tolist()), tuple(values))
