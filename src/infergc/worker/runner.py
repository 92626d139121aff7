"""One step: move pages, bind slots, run the decoder over paged KV, sample.

Shapes: S rows of the plan, T tokens, R sampled rows, E hidden, V vocabulary.
"""

import time
from concurrent.futures import Future
from typing import TypeVar

import numpy as np
import torch

from infergc.heap.errors import Finding
from infergc.heap.moves import Move
from infergc.kernels.api import AttentionBackend
from infergc.models.decoder import Decoder
from infergc.sched.plan import StepOutcome, StepPlan, TokenLogprobs
from infergc.sched.prompt_spans import PromptSpans
from infergc.worker.batch import Batch, build_batch
from infergc.worker.copier import Copied
from infergc.worker.flight import Moving
from infergc.worker.forward import create_forward
from infergc.worker.moving import make
from infergc.worker.sampler import Sampled, Sampler
from infergc.worker.sampling.prompts import report_prompts
from infergc.worker.storage import KVStorage, LayerGroups

_Found = TypeVar("_Found")


class StepRunner:
    """The worker's state, by slot and by page, and what changes it. Used by one thread.

    Args:
        decoder: the model.
        attention: the backend that writes and reads KV.
        groups: which layer lies in which group.
        storage: KV of every layer.
        sampler: has state for slots 0 … max_num_seqs - 1.
        max_num_seqs: number of slots.
    """

    def __init__(
        self,
        decoder: Decoder,
        attention: AttentionBackend,
        groups: LayerGroups,
        storage: KVStorage,
        sampler: Sampler,
        max_num_seqs: int,
    ) -> None:
        self._decoder = decoder
        self._storage = storage
        self._forward = create_forward(decoder, attention, groups, storage)
        self._sampler = sampler
        self._prompts = PromptSpans()
        self._latest = np.zeros(max_num_seqs, np.int32)  # slot → token sampled last

    def run(
        self, plan: StepPlan, moves: tuple[Move, ...], copied: Future[Copied] | None, moving: Moving
    ) -> StepOutcome:
        """Carry out a step.

        Args:
            plan: the step.
            moves: those of the plan that are not made already.
            copied: what is to be waited for first, the pages that come from the host tier; None: nothing.
            moving: says from then on that all moves were made.
        """
        try:
            transfer = _NOTHING_COPIED if copied is None else copied.result()
        finally:  # whatever fails: others than this step's requests depend on the moves
            started = time.perf_counter()  # a wait is no work: what copies take is learnt apart from what steps take
            make(moves, self._storage.apply, self._storage.page_tokens)
            moving.made = True
            moving.over.set()
        (tokens, logprobs, errors), prompts = self._compute(plan)
        seconds = time.perf_counter() - started
        return StepOutcome(plan.step, tokens, logprobs, seconds, transfer.size, transfer.seconds, errors, prompts)

    @torch.inference_mode()
    def _compute(self, plan: StepPlan) -> tuple[Sampled, dict[int, list[TokenLogprobs]]]:
        """What each row samples, and what is to be told of prompts."""
        for binding in plan.bindings:
            self._sampler.bind(binding)
            self._prompts.bind(binding)
        batch = build_batch(plan, self._latest)
        hidden_TE = self._forward(plan, batch)
        spec = self._decoder.spec
        prompts = report_prompts(self._prompts.of(plan), hidden_TE, self._decoder.logits, spec.vocab_size)
        return self._sample(plan, batch, hidden_TE), prompts

    @torch.inference_mode()
    def inspect(self) -> list[Finding]:
        """What is wrong with storage."""
        return self._storage.inspect()

    def close(self) -> None:
        """Stop what runs beside it."""
        self._sampler.close()

    def _sample(self, plan: StepPlan, batch: Batch, hidden_TE: torch.Tensor) -> Sampled:
        """Of all rows of the plan; -1 where there is no token."""
        tokens_S = np.full(len(plan.slots), -1, np.int32)
        if not len(batch.sampled_R):
            return Sampled(tokens_S, {}, {})
        logits_RV = self._decoder.logits(hidden_TE[batch.last_tokens_R])
        tokens_R, reports, errors = self._sampler.sample(logits_RV, batch.slots_R, batch.next_positions_R)
        self._latest[batch.slots_R] = tokens_R  # also of a row at fault: a step that is planned already computes for it
        tokens_S[batch.sampled_R] = tokens_R
        rows = batch.sampled_R.tolist()
        tokens_S[[rows[row] for row in errors]] = -1
        return Sampled(tokens_S, _by(rows, reports), _by(rows, errors))


def _by(rows: list[int], found: dict[int, _Found]) -> dict[int, _Found]:
    """What was found of sampled rows, by rows of the plan."""
    return {rows[row]: each for row, each in found.items()}


_NOTHING_COPIED = Copied(0, 0.0)
