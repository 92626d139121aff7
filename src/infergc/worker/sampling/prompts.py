"""Log probabilities of prompts: how likely each token was after those before it.

Shapes: T tokens of a step, N tokens of a prompt that a step tells of, E hidden, V vocabulary.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from infergc.sched.plan import TokenLogprobs
from infergc.sched.prompt_spans import PromptSpan
from infergc.worker.sampling.pieces import pieces
from infergc.worker.sampling.report import report

_LOGITS = 1 << 21  # made at once: 8 MiB; so few rows already read the head's matrix for little beside their own cost


def report_prompts(
    spans: Iterable[PromptSpan], hidden_TE: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor], vocab: int
) -> dict[int, list[TokenLogprobs]]:
    """Row → reports of its span's tokens, by the model's own logits. Memory: 8 MiB of logits at once, whatever T is.

    Args:
        spans: of the step.
        hidden_TE: after the last norm.
        logits: hidden states ``[N, E]`` to logits ``[N, V]``, float32.
        vocab: V.
    """
    return {span.row: _report(span, hidden_TE, logits, vocab) for span in spans}


def _report(
    span: PromptSpan, hidden_TE: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor], vocab: int
) -> list[TokenLogprobs]:
    told: list[TokenLogprobs] = []
    for rows in pieces(np.arange(len(span.tokens)), vocab, _LOGITS):
        first = span.first + int(rows[0])
        logits_NV = logits(hidden_TE[first : first + len(rows)])
        for part in pieces(np.arange(len(rows)), vocab):
            counts_N = np.full(len(part), span.likeliest)
            tokens_N = torch.from_numpy(span.tokens[rows[part]]).to(logits_NV.device)
            told += report(logits_NV[part[0] : part[-1] + 1], tokens_N, counts_N)
    return told
