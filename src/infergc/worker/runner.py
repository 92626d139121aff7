"""One step: move pages, bind slots, run the decoder over paged KV, sample.

Shapes: S rows of the plan, T tokens, R sampled rows, E hidden, V vocabulary.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.heap.errors import Finding
from infergc.heap.moves import Move
from infergc.kernels.api import AttentionBackend
from infergc.models.decoder import Decoder
from infergc.sched.plan import I32, StepOutcome, StepPlan, TokenLogprobs
from infergc.sched.prompt_spans import PromptSpans
from infergc.worker.batch import Batch, lay_out_batch
from infergc.worker.devices.device import Device, Fence, drain
from infergc.worker.forward import create_forward
from infergc.worker.layers import Layers
from infergc.worker.memory.copier import Copied, Moving
from infergc.worker.memory.moving import make
from infergc.worker.memory.storage import KVStorage, LayerGroups
from infergc.worker.sampler import Asked, Sampler
from infergc.worker.sampling.prompts import lay_out_prompts, report_prompts

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class _Sampled:
    """What a step's sampled rows give, as rows of the plan."""

    rows_R: I32
    tokens_R: NDArray[np.int32] | None  # to be read when the step has ended; None where no row is sampled
    reports: dict[int, TokenLogprobs]
    errors: dict[int, str]


@dataclass(frozen=True, slots=True)
class StepLanding:
    """Implements ``flight.Landing``: a step that was given to the device between two fences."""

    plan: StepPlan
    sampled: _Sampled
    prompts: dict[int, list[TokenLogprobs]]
    copied: Copied | None
    device: Device
    began: Fence
    ended: Fence

    def outcome(self) -> StepOutcome:
        """See ``flight.Landing``."""
        # Also where nothing is sampled: what was written may be stored from now on. The step's copies came before.
        self.device.settle(self.ended)
        tokens_S = np.full(len(self.plan.slots), -1, np.int32)
        if self.sampled.tokens_R is not None:
            tokens_S[self.sampled.rows_R] = self.sampled.tokens_R
            tokens_S[list(self.sampled.errors)] = -1
        seconds = self.device.seconds(self.began, self.ended)
        size = 0 if self.copied is None else self.copied.size
        copying = 0.0 if self.copied is None else self.device.seconds(self.copied.began, self.copied.ended)
        reports, errors = self.sampled.reports, self.sampled.errors
        return StepOutcome(self.plan.step, tokens_S, reports, seconds, size, copying, errors, self.prompts)


class StepRunner:
    """The worker's state, by slot and by page, and what changes it. Used by one thread.

    Args:
        decoder: the model.
        attention: the backend that writes and reads KV.
        groups: which layer lies in which group.
        storage: KV of every layer.
        sampler: has state for slots 0 … max_num_seqs - 1.
        max_num_seqs: number of slots.
        device: where model, storage and sampler are.
    """

    def __init__(
        self,
        decoder: Decoder,
        attention: AttentionBackend,
        groups: LayerGroups,
        storage: KVStorage,
        sampler: Sampler,
        max_num_seqs: int,
        device: Device,
    ) -> None:
        self._device = device
        self._decoder = decoder
        self._storage = storage
        self._forward = create_forward(Layers(decoder, attention, groups, storage), device, max_num_seqs)
        self._sampler = sampler
        self._prompts = PromptSpans()
        self._latest_N = torch.zeros(max_num_seqs, dtype=torch.int32, device=device.place)  # slot → last token

    def run(
        self, plan: StepPlan, moves: tuple[Move, ...], copied: Future[Copied] | None, moving: Moving
    ) -> StepLanding:
        """Give a step to the device.

        Args:
            plan: the step.
            moves: those of the plan that are not made already.
            copied: what is to be waited for first, the pages that come from the host tier; None: nothing.
            moving: says from then on that all moves were made.
        """
        transfer = None
        try:
            if copied is not None:
                transfer = copied.result()
                self._device.wait(transfer.ended)
        finally:  # whatever fails: others than this step's requests depend on the moves
            began = self._device.fence()  # a wait is no work: what copies take is learnt apart from what steps take
            make(moves, self._storage.apply)
            moving.fence = self._device.fence()
            moving.made = True
            moving.over.set()
        try:
            sampled, prompts = self._compute(plan)
        except BaseException:
            drain(self._device)  # what was given to it still writes pages that others may get next
            raise
        return StepLanding(plan, sampled, prompts, transfer, self._device, began, self._device.fence())

    @torch.inference_mode()
    def _compute(self, plan: StepPlan) -> tuple[_Sampled, dict[int, list[TokenLogprobs]]]:
        """What each row samples, and what is to be told of prompts."""
        for binding in plan.bindings:
            self._sampler.bind(binding)
            self._prompts.bind(binding)
        freight = self._device.freight()  # one copy of all that the device has to know of the step
        compute = self._forward(plan, freight)
        batch = lay_out_batch(plan, freight)
        asked = self._sampler.lay_out(batch.slots_R, batch.next_positions_R, freight)
        told = lay_out_prompts(self._prompts.of(plan), freight)
        freight.send()
        hidden_TE = compute(batch.token_ids(self._latest_N), batch.positions_T.tensor)
        prompts = report_prompts(told, hidden_TE, self._decoder.logits, self._decoder.spec.vocab_size)
        return self._sample(batch, asked, hidden_TE), prompts

    @torch.inference_mode()
    def inspect(self) -> list[Finding]:
        """What is wrong with storage."""
        return self._storage.inspect()

    def close(self) -> None:
        """Stop what runs beside it."""
        self._sampler.close()

    def _sample(self, batch: Batch, asked: Asked, hidden_TE: torch.Tensor) -> _Sampled:
        if not len(batch.sampled_R):
            return _Sampled(batch.sampled_R, None, {}, {})
        logits_RV = self._decoder.logits(hidden_TE[batch.last_tokens_R.tensor])
        tokens_R, reports, errors = self._sampler.sample(logits_RV, asked)
        # Of a row at fault too: a step that is planned already computes for it.
        self._latest_N[batch.at_slots_R.tensor] = tokens_R
        rows = batch.sampled_R.tolist()
        return _Sampled(batch.sampled_R, self._device.fetch(tokens_R), _by(rows, reports), _by(rows, errors))


def _by(rows: list[int], found: dict[int, _Found]) -> dict[int, _Found]:
    """What was found of sampled rows, by rows of the plan."""
    return {rows[row]: each for row, each in found.items()}
