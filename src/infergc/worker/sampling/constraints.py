"""Structured outputs: the tokens that the grammars of rows leave to choose from.

Shapes: S rows of a step, C of them with a grammar, V vocabulary, N slots; W words of 32 bits that
have a bit for each id of the tokenizer.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import consume_token_par, fill_next_token_bitmask_par, get_bitmask_shape
from numpy.typing import NDArray

from infergc import grammars
from infergc.kernels.freight import Freight
from infergc.sched.plan import Binding
from infergc.structured_outputs import FIELD, StructuredOutputs
from infergc.worker.sampling.compiled import CompiledGrammars
from infergc.worker.sampling.masks import ban

_ALL = -1  # a word whose bits are all set
_STUCK = f"{FIELD}: of the model's tokens none can follow what the text has so far"


@dataclass(slots=True)
class _Slot:
    """A slot's text. Without a matcher it has ended, or it is at fault: nobody minds how it goes on.

    ``lost`` is why it is not known any more what may come next: steps with it fail until the slot is bound anew. It is
    kept in words: an exception that is raised holds on to what the frames hold that it passes, to a step's logits.
    ``job`` is the last that has to do with the slot; it ends after those before it.
    """

    number: int
    matcher: LLMatcher | None = None
    fault: str = ""
    lost: str = ""
    job: Future[None] | None = None


class LostError(RuntimeError):
    """Why it is not known what may come next in a text."""


class Constraints:
    """The grammars of slots; what goes wrong with one concerns its row alone.

    While the decoder computes, one thread compiles, and another follows the tokens and finds what may come next;
    ``mask`` waits for what concerns the rows of its step. To follow takes about 5 µs a row and step, and to find 5 to
    50 µs with 4096 ids; to mask some 15 µs, or 250 µs with 128,000. What one grammar of a step takes more, the other
    rows of the step wait for: see docs/structured-outputs.md for the most.

    Args:
        max_num_seqs: slots 0 … max_num_seqs - 1.
        vocab_size: V.
        compiled: makes the matchers.
    """

    def __init__(self, max_num_seqs: int, vocab_size: int, compiled: CompiledGrammars) -> None:
        self._max_num_seqs = max_num_seqs
        self._vocab_size = vocab_size
        self._compiled = compiled
        self._slots: dict[int, _Slot] = {}
        self._masks_NW: NDArray[np.int32] = np.empty((0, 0), np.int32)  # by slot, once there is a tokenizer
        self._beyond_W: NDArray[np.int32] = np.empty(0, np.int32)  # ids that the logits do not have
        self._compiling = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infergc-grammar-begin")
        self._following = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infergc-grammar")

    def bind(self, binding: Binding) -> None:
        """Give a slot to a request, as if its ``output`` had been sampled here."""
        last = self._slots.pop(binding.slot, None)
        before = None if last is None else last.job
        outputs = binding.params.structured_outputs
        if outputs is None:
            return
        slot = self._slots[binding.slot] = _Slot(binding.slot)
        slot.job = self._compiling.submit(self._begin, slot, outputs, binding.output.tolist(), before)

    def mask(self, logits_SV: torch.Tensor, slots: NDArray[np.integer], freight: Freight) -> dict[int, str]:
        """Give -inf to the tokens that rows' grammars do not allow, in place.

        Args:
            logits_SV: float32.
            slots: [S].
            freight: to where the logits are. It leaves once more: what may come next was not known before.

        Returns:
            row → what is wrong, of rows that cannot go on; their logits are as they were.
        """
        found = self._find(slots)
        if not found:
            return {}
        for _, slot in found:
            assert slot.job is not None, "each was bound"
            slot.job.result()
            if slot.lost:
                raise LostError(slot.lost)
        faults = {row: slot.fault for row, slot in found if slot.fault}
        going = [(row, slot.number) for row, slot in found if slot.matcher is not None]
        return faults | self._mask(logits_SV, np.array(going, np.int64), freight) if going else faults

    def follow(self, slots: NDArray[np.integer], tokens_S: torch.Tensor) -> None:
        """These tokens were sampled; where a row has a grammar, the device is waited for."""
        found = self._find(slots)
        if not found:
            return
        tokens = tokens_S.tolist()
        job = self._following.submit(self._go_on, [(slot, tokens[row]) for row, slot in found])
        for _, slot in found:
            slot.job = job

    def close(self) -> None:
        """Stop the threads, once they have done what they are at."""
        for thread in (self._compiling, self._following):
            thread.shutdown(wait=True, cancel_futures=True)

    def _find(self, slots: NDArray[np.integer]) -> list[tuple[int, _Slot]]:
        """Rows with a grammar."""
        if not self._slots:
            return []
        return [(row, self._slots[slot]) for row, slot in enumerate(slots.tolist()) if slot in self._slots]

    def _mask(self, logits_SV: torch.Tensor, at_C2: NDArray[np.int64], freight: Freight) -> dict[int, str]:
        rows_C, slots_C = at_C2.T
        banned_CW = ~self._masks_NW[slots_C]
        stuck_C = (banned_CW | self._beyond_W == _ALL).all(axis=1)
        banned_CW[stuck_C] = 0
        ban(logits_SV, rows_C, banned_CW, freight)
        return dict.fromkeys(rows_C[stuck_C].tolist(), _STUCK)

    # ---- on the threads

    @cached_property
    def _executor(self) -> LLExecutor:
        """Looks at several rows at a time."""
        return LLExecutor()

    def _begin(self, slot: _Slot, outputs: StructuredOutputs, tokens: list[int], before: Future[None] | None) -> None:
        if before is not None:  # with the text that had the slot, whose masks were in the same place
            wait((before,))
        try:
            slot.matcher = self._compiled.matcher(outputs)
            slot.matcher.consume_tokens(tokens)
            self._look([slot])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this row's
            slot.matcher, slot.fault = None, f"{FIELD}: {error}"

    def _go_on(self, steps: list[tuple[_Slot, int]]) -> None:
        try:
            self._consume(steps)
        except Exception as error:  # noqa: BLE001 - memory, as a rule: it is no fault of a text
            words = "out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
            for slot, _ in steps:
                slot.lost = f"{FIELD}: {words}"

    def _consume(self, steps: list[tuple[_Slot, int]]) -> None:
        going: list[tuple[LLMatcher, int]] = []
        for slot, token in steps:
            if token in self._compiled.eos_ids:
                slot.matcher = None
            if slot.matcher is not None:
                going.append((slot.matcher, token))
        if not going:  # all have ended; llguidance takes no empty list
            return
        consume_token_par(self._executor, going)
        self._look([slot for slot, _ in steps if slot.matcher is not None])

    def _look(self, slots: Sequence[_Slot]) -> None:
        """Find what may come next."""
        if not len(self._masks_NW):
            shape = get_bitmask_shape(self._max_num_seqs, self._compiled.tokenizer.vocab_size)
            self._beyond_W = np.packbits(np.arange(shape[1] * 32) >= self._vocab_size, bitorder="little").view(np.int32)
            self._masks_NW = np.zeros(shape, np.int32)
        at = [(slot.matcher, slot.number) for slot in slots if slot.matcher is not None]
        fill_next_token_bitmask_par(self._executor, at, self._masks_NW)
        for slot in slots:
            if slot.matcher is not None and slot.matcher.is_error():
                slot.fault = f"{FIELD}: {grammars.error_of(slot.matcher)}"
                slot.matcher = None
