"""Log probabilities of prompts: how likely each token was after those before it.

Shapes: T tokens of a step, N tokens of a prompt that a step tells of, E hidden, V vocabulary.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch

from infergc.kernels.freight import Freight, Parcel
from infergc.sched.plan import TokenLogprobs
from infergc.sched.prompt_spans import PromptSpan
from infergc.worker.sampling.pieces import at_once, pieces
from infergc.worker.sampling.report import report

_LOGITS = 1 << 21  # made at once: 8 MiB; so few rows already read the head's matrix for little beside their own cost


class Told(NamedTuple):
    """A span, and its tokens on the way to where the model is."""

    span: PromptSpan
    tokens_N: Parcel


def lay_out_prompts(spans: Iterable[PromptSpan], freight: Freight) -> list[Told]:
    """Prepare ``report_prompts``: the tokens go by the freight."""
    return [Told(span, freight.add(span.tokens)) for span in spans]


def report_prompts(
    told: Iterable[Told], hidden_TE: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor], vocab: int
) -> dict[int, list[TokenLogprobs]]:
    """Row → reports of its span's tokens, by the model's own logits. Memory: 8 MiB of logits at once, whatever T is.

    Args:
        told: of the step; the freight has left.
        hidden_TE: after the last norm.
        logits: hidden states ``[N, E]`` to logits ``[N, V]``, float32.
        vocab: V.
    """
    return {span.row: _report(span, tokens_N.tensor, hidden_TE, logits, vocab) for span, tokens_N in told}


def _report(
    span: PromptSpan,
    tokens_N: torch.Tensor,
    hidden_TE: torch.Tensor,
    logits: Callable[[torch.Tensor], torch.Tensor],
    vocab: int,
) -> list[TokenLogprobs]:
    reports: list[TokenLogprobs] = []
    for rows in pieces(np.arange(len(span.tokens)), vocab, _LOGITS):
        these = slice(int(rows[0]), int(rows[-1]) + 1)
        logits_NV = logits(hidden_TE[span.first :][these])
        sizes = [len(part) for part in pieces(rows, vocab, at_once(hidden_TE.device))]
        for part in zip(logits_NV.split_with_sizes(sizes), tokens_N[these].split_with_sizes(sizes), strict=True):
            reports += report(*part, np.full(len(part[1]), span.likeliest))
    return reports
