"""What a simulated model finds likely: reports of log probabilities drawn from a hash."""

from collections.abc import Iterable
from math import inf
from typing import Any

import numpy as np

from infergc.sched.plan import StepPlan, TokenLogprobs
from infergc.sched.prompt_spans import PromptSpan

_CANDIDATES = 1024  # ids that are told apart: the vocabulary of a simulated model may have two billion
_SPREAD = 8.0  # between the likeliest and the least likely token's logit


def reports(plan: StepPlan, tokens: Any, counts: Any, hashes: Any, vocab_size: int) -> dict[int, TokenLogprobs]:
    """Row → the likeliest tokens after its last input, and how likely the one was that it samples.

    Args:
        plan: of the step.
        tokens: [S] what each row samples.
        counts: [S] tokens to report for each row, -1 for no report.
        hashes: function of an array of seeds and of one of positions.
        vocab_size: ids are 0 … vocab_size - 1; those from 1,024 on are never likely.
    """
    asking = np.flatnonzero((counts >= 0) & plan.sample)
    if not len(asking):
        return {}
    ends = np.cumsum(plan.counts)[asking]
    logprobs = _logprobs(plan.token_ids[ends - 1], (plan.starts + plan.counts)[asking], hashes, vocab_size)
    columns = (asking.tolist(), logprobs, tokens[asking].tolist(), counts[asking].tolist())
    return {row: _report(line, token, count) for row, line, token, count in zip(*columns, strict=True)}


def prompt_reports(
    plan: StepPlan, spans: Iterable[PromptSpan], hashes: Any, vocab_size: int
) -> dict[int, list[TokenLogprobs]]:
    """Row → reports of its span's tokens. Otherwise as ``reports``."""
    told = {}
    for span in spans:
        inputs = plan.token_ids[span.first : span.first + len(span.tokens)]
        positions = span.position + 1 + np.arange(len(inputs))
        logprobs = _logprobs(inputs, positions, hashes, vocab_size)
        told[span.row] = [
            _report(line, token, span.likeliest) for line, token in zip(logprobs, span.tokens.tolist(), strict=True)
        ]
    return told


def _logprobs(inputs: Any, positions: Any, hashes: Any, vocab_size: int) -> Any:
    """What may stand at these positions, after these tokens: nothing else of the text matters."""
    candidates = np.arange(min(vocab_size, _CANDIDATES), dtype=np.uint64)
    seeds = inputs.astype(np.uint64)[:, None] * np.uint64(vocab_size) + candidates
    logits = (hashes(seeds, positions[:, None]) >> np.uint64(40)).astype(np.float64) / 2**24 * _SPREAD
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _report(logprobs: Any, token: int, count: int) -> TokenLogprobs:
    own = float(logprobs[token]) if token < len(logprobs) else -inf
    ids = np.argsort(-logprobs, kind="stable")[:count]
    return TokenLogprobs(own, 1 + int((logprobs > own).sum()), tuple(ids.tolist()), tuple(logprobs[ids].tolist()))
