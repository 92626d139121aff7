"""Repetition, presence and frequency penalties over counts of the tokens seen.

Shapes: S rows of a step, R rows with penalties, V vocabulary, N rows of the table of counts, T tokens of a text.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.kernels.freight import Freight, Parcel
from infergc.params import SamplingParams
from infergc.sched.plan import I32
from infergc.worker.sampling.pieces import at_once, pieces

_IN_PROMPT = 1  # lowest bit of a count: the token is in the prompt
_ONE_USE = 2  # the bits above it count uses in the output


class _Fresh(NamedTuple):
    """A row of counts that is made anew, as a request is sampled first."""

    row: int
    prompt_T: Parcel
    output_T: Parcel


@dataclass(frozen=True, slots=True)
class Penalising:
    """A step's rows with penalties, on the way to where the logits are.

    Attributes:
        fresh: rows of counts that begin with this step.
        at_R: rows of the step, int64.
        uses_R: their rows of counts, int64.
        columns_R1: repetition, frequency and presence penalty, float32.
        sizes: how many neighbouring rows are worked on at a time.
    """

    fresh: list[_Fresh]
    at_R: Parcel
    uses_R: Parcel
    columns_R1: tuple[Parcel, Parcel, Parcel]
    sizes: list[int]


class Penalties:
    """Counts of tokens for the slots that ask for penalties, and the penalties themselves.

    A slot has a row of counts only while it asks for a penalty: memory is 4 bytes × V for each such
    slot, and a slot without penalties costs nothing. A text is counted where the logits are, in the step
    that samples it first, and not before: steps before it may still count for whoever had the row.
    """

    def __init__(self, max_num_seqs: int, vocab_size: int, device: torch.device) -> None:
        self._repetition = np.ones(max_num_seqs, np.float32)
        self._frequency = np.zeros(max_num_seqs, np.float32)
        self._presence = np.zeros(max_num_seqs, np.float32)
        self._row_of = np.full(max_num_seqs, -1, np.int64)  # slot → row of counts, -1 without penalties
        self._free: list[int] = []
        self._uses_NV = torch.zeros((0, vocab_size), dtype=torch.int32, device=device)
        self._texts: dict[int, tuple[I32, I32]] = {}  # slot → prompt and output that are not counted yet

    def bind(self, slot: int, params: SamplingParams, prompt: I32, output: I32) -> None:
        """Give the slot to a request; ``output`` is what it generated before a preemption."""
        if not _wanted(params):
            self._release(slot)
            return
        self._reserve(slot)
        self._repetition[slot] = params.repetition_penalty
        self._frequency[slot] = params.frequency_penalty
        self._presence[slot] = params.presence_penalty
        self._texts[slot] = prompt, output

    def lay_out(self, slots: NDArray[np.integer], freight: Freight) -> Penalising | None:
        """Prepare ``apply`` and ``count`` for the rows of a step, which are called once; None: no row has penalties."""
        uses_S = self._row_of[slots]
        at_R = np.flatnonzero(uses_S >= 0)
        if not len(at_R):
            return None
        asking = slots[at_R]
        fresh = [self._lay_out_text(slot, freight) for slot in asking.tolist() if slot in self._texts]
        repetition, frequency, presence = (
            freight.add(values[asking][:, None]) for values in (self._repetition, self._frequency, self._presence)
        )
        sizes = [len(piece) for piece in pieces(at_R, self._uses_NV.shape[1], at_once(freight.place))]
        at, uses = freight.add(at_R), freight.add(uses_S[at_R])
        return Penalising(fresh, at, uses, (repetition, frequency, presence), sizes)

    def apply(self, logits_SV: torch.Tensor, penalising: Penalising | None) -> None:
        """Adjust in place the rows of ``logits_SV`` whose slots ask for penalties; the freight has left.

        Tokens in prompt or output: a positive logit is divided by the repetition penalty, a negative one
        multiplied (CTRL, Keskar et al. 2019, section 4.1). Then tokens in the output lose
        frequency × uses + presence.
        """
        if penalising is None:
            return
        for fresh in penalising.fresh:
            self._begin(fresh)
        parcels = (penalising.at_R, penalising.uses_R, *penalising.columns_R1)
        for piece in zip(*(parcel.tensor.split_with_sizes(penalising.sizes) for parcel in parcels), strict=True):
            self._apply(logits_SV, *piece)

    def count(self, tokens_S: torch.Tensor, penalising: Penalising | None) -> None:
        """Note the tokens just sampled, [S]."""
        if penalising is not None:
            ids_R = tokens_S.index_select(0, penalising.at_R.tensor)
            self._uses_NV[penalising.uses_R.tensor, ids_R] += _ONE_USE

    def _apply(
        self,
        logits_SV: torch.Tensor,
        at_R: torch.Tensor,
        row_R: torch.Tensor,
        repetition_R1: torch.Tensor,
        frequency_R1: torch.Tensor,
        presence_R1: torch.Tensor,
    ) -> None:
        uses_RV = self._uses_NV.index_select(0, row_R)
        x_RV = logits_SV.index_select(0, at_R)
        repetition_RV = torch.where(uses_RV > 0, repetition_R1, 1.0)
        x_RV = torch.where(x_RV > 0, x_RV / repetition_RV, x_RV * repetition_RV)
        x_RV -= frequency_R1 * (uses_RV >> 1)
        x_RV -= presence_R1 * (uses_RV > _IN_PROMPT)
        logits_SV[at_R] = x_RV

    def _lay_out_text(self, slot: int, freight: Freight) -> _Fresh:
        prompt, output = self._texts.pop(slot)
        return _Fresh(int(self._row_of[slot]), freight.add(prompt), freight.add(output))

    def _begin(self, fresh: _Fresh) -> None:
        """Count a text. Sums of integers are exact in any order."""
        uses_V = self._uses_NV[fresh.row].zero_()
        uses_V.index_fill_(0, fresh.prompt_T.tensor.long(), _IN_PROMPT)
        output_T = fresh.output_T.tensor
        uses_V.index_add_(0, output_T, torch.full_like(output_T, _ONE_USE))

    def _reserve(self, slot: int) -> None:
        """Give the slot a row of counts; the table doubles when none is free."""
        if self._row_of[slot] < 0:
            if not self._free:
                self._grow()
            self._row_of[slot] = self._free.pop()

    def _release(self, slot: int) -> None:
        if self._row_of[slot] >= 0:
            row, self._row_of[slot] = int(self._row_of[slot]), -1
            self._free.append(row)
            self._texts.pop(slot, None)

    def _grow(self) -> None:
        rows = len(self._uses_NV)
        total = min(max(2 * rows, 1), len(self._row_of))
        more_NV = self._uses_NV.new_zeros((total - rows, self._uses_NV.shape[1]))
        free = list(range(total - 1, rows - 1, -1))
        self._uses_NV, self._free = torch.cat((self._uses_NV, more_NV)), free


def _wanted(params: SamplingParams) -> bool:
    return params.repetition_penalty != 1.0 or bool(params.presence_penalty or params.frequency_penalty)
