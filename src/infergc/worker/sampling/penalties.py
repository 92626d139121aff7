"""Repetition, presence and frequency penalties over counts of the tokens seen.

Shapes: S rows of a step, R rows with penalties, V vocabulary, N rows of the table of counts.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.params import SamplingParams
from infergc.sched.plan import I32
from infergc.worker.sampling.pieces import pieces

_IN_PROMPT = 1  # lowest bit of a count: the token is in the prompt
_ONE_USE = 2  # the bits above it count uses in the output


class Penalties:
    """Counts of tokens for the slots that ask for penalties, and the penalties themselves.

    A slot has a row of counts only while it asks for a penalty: memory is 4 bytes × V for each such
    slot, and a slot without penalties costs nothing.
    """

    def __init__(self, max_num_seqs: int, vocab_size: int, device: torch.device) -> None:
        self._repetition = np.ones(max_num_seqs, np.float32)
        self._presence = np.zeros(max_num_seqs, np.float32)
        self._frequency = np.zeros(max_num_seqs, np.float32)
        self._row_of = np.full(max_num_seqs, -1, np.int64)  # slot → row of counts, -1 without penalties
        self._free: list[int] = []
        self._uses_NV = torch.zeros((0, vocab_size), dtype=torch.int32, device=device)

    def bind(self, slot: int, params: SamplingParams, prompt: I32, output: I32) -> None:
        """Give the slot to a request; ``output`` is what it generated before a preemption."""
        if not _wanted(params):
            self._release(slot)
            return
        self._repetition[slot] = params.repetition_penalty
        self._presence[slot] = params.presence_penalty
        self._frequency[slot] = params.frequency_penalty
        vocab_size = self._uses_NV.shape[1]
        uses = np.bincount(output, minlength=vocab_size) * _ONE_USE
        uses[prompt] |= _IN_PROMPT
        row = self._reserve(slot)  # first, as it may replace the table
        self._uses_NV[row] = torch.from_numpy(uses.astype(np.int32)).to(self._uses_NV.device)

    def apply(self, logits_SV: torch.Tensor, slots: NDArray[np.integer]) -> None:
        """Adjust in place the rows of ``logits_SV`` whose slots ask for penalties.

        Tokens in prompt or output: a positive logit is divided by the repetition penalty, a negative one
        multiplied (CTRL, Keskar et al. 2019, section 4.1). Then tokens in the output lose
        frequency × uses + presence.
        """
        for rows in pieces(np.flatnonzero(self._row_of[slots] >= 0), logits_SV.shape[1]):
            self._apply(logits_SV, rows, slots[rows])

    def _apply(self, logits_SV: torch.Tensor, rows: NDArray[np.int64], asking: NDArray[np.integer]) -> None:
        at_R = torch.from_numpy(rows).to(logits_SV.device)
        uses_RV = self._uses_NV.index_select(0, torch.from_numpy(self._row_of[asking]).to(logits_SV.device))
        x_RV = logits_SV.index_select(0, at_R)
        repetition_RV = torch.where(uses_RV > 0, self._column(self._repetition, asking), 1.0)
        x_RV = torch.where(x_RV > 0, x_RV / repetition_RV, x_RV * repetition_RV)
        x_RV -= self._column(self._frequency, asking) * (uses_RV >> 1)
        x_RV -= self._column(self._presence, asking) * (uses_RV > _IN_PROMPT)
        logits_SV[at_R] = x_RV

    def count(self, slots: NDArray[np.integer], tokens_S: torch.Tensor) -> None:
        """Note the tokens just sampled for these slots, [S]."""
        counts = self._row_of[slots]
        asking = np.flatnonzero(counts >= 0)
        if len(asking):
            device = self._uses_NV.device
            rows_R = torch.from_numpy(counts[asking]).to(device)
            ids_R = tokens_S.index_select(0, torch.from_numpy(asking).to(device))
            self._uses_NV[rows_R, ids_R] += _ONE_USE

    def _column(self, values: NDArray[np.float32], slots: NDArray[np.integer]) -> torch.Tensor:
        return torch.from_numpy(values[slots]).to(self._uses_NV.device).unsqueeze(1)

    def _reserve(self, slot: int) -> int:
        """The slot's row of counts; the table doubles when none is free."""
        if self._row_of[slot] < 0:
            if not self._free:
                self._grow()
            self._row_of[slot] = self._free.pop()
        return int(self._row_of[slot])

    def _release(self, slot: int) -> None:
        if self._row_of[slot] >= 0:
            row, self._row_of[slot] = int(self._row_of[slot]), -1
            self._free.append(row)

    def _grow(self) -> None:
        rows = len(self._uses_NV)
        total = min(max(2 * rows, 1), len(self._row_of))
        more_NV = self._uses_NV.new_zeros((total - rows, self._uses_NV.shape[1]))
        free = list(range(total - 1, rows - 1, -1))
        self._uses_NV, self._free = torch.cat((self._uses_NV, more_NV)), free


def _wanted(params: SamplingParams) -> bool:
    return params.repetition_penalty != 1.0 or bool(params.presence_penalty or params.frequency_penalty)
