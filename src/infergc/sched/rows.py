"""The state of running sequences as columns of arrays, one row a slot, so that a step is array arithmetic."""

from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from infergc.sched.plan import FROM_DEVICE, I32, Binding
from infergc.sched.request import Request

Slots = NDArray[np.intp]  # numpy indexes several times faster by integers of this kind than by others


class Rows:
    """Tokens and their counts by slot. Always computed ≤ scheduled ≤ known + pending ≤ limit.

    Columns: ``tokens`` ids of prompt and output; ``known`` how many of them are known; ``pending`` tokens that
    steps in flight will sample; ``scheduled`` tokens whose KV is computed or planned; ``computed`` tokens whose
    KV is computed; ``shared`` tokens whose KV was at hand when it came to run; ``prompt`` tokens of the prompt;
    ``limit`` most tokens; ``watch`` known tokens from which on a new token is looked at by itself;
    ``ids`` the request's id.

    Memory: ``tokens`` takes slots x longest x 4 bytes when every row has held a text of the longest kind. It is
    made once, of zeros, which systems commit page by page as rows are first written; so short texts take little,
    and nothing is ever copied to grow.
    """

    def __init__(self, slots: int, longest: int) -> None:
        self.tokens: I32 = np.zeros((slots, longest), np.int32)
        self.known: I32 = np.zeros(slots, np.int32)
        self.pending: I32 = np.zeros(slots, np.int32)
        self.scheduled: I32 = np.zeros(slots, np.int32)
        self.computed: I32 = np.zeros(slots, np.int32)
        self.shared: I32 = np.zeros(slots, np.int32)
        self.prompt: I32 = np.zeros(slots, np.int32)
        self.limit: I32 = np.zeros(slots, np.int32)
        self.watch: I32 = np.zeros(slots, np.int32)
        self.ids: NDArray[np.object_] = np.zeros(slots, np.object_)

    def enter(self, slot: int, request: Request, cached: int) -> "RowTokens":
        """A request starts to run with the KV of its first ``cached`` tokens at hand; returns its log from now on."""
        known = request.tokens.size
        self.tokens[slot, :known] = request.tokens.view()
        self.known[slot] = known
        self.pending[slot] = 0
        self.scheduled[slot] = self.computed[slot] = self.shared[slot] = cached
        self.prompt[slot] = request.prompt_len
        self.limit[slot] = request.gate
        self.watch[slot] = known
        self.ids[slot] = request.id
        return RowTokens(self, slot)

    def wanted(self, slots: Slots) -> I32:
        """Tokens each sequence could compute now; 0 once its last token is in flight."""
        total = self.known[slots] + self.pending[slots]
        return (total - self.scheduled[slots]) * (total < self.limit[slots])

    def inputs(self, slots: Slots, starts: I32, counts: I32) -> I32:
        """The input tokens of a step, row by row; FROM_DEVICE for those that a step in flight samples."""
        known = self.known[slots]
        first = np.where(starts < known, self.tokens[slots, starts], FROM_DEVICE)
        chunks = (counts > 1).nonzero()[0]
        if not len(chunks):
            return first
        ends = np.cumsum(counts)
        tokens = np.full(int(ends[-1]), FROM_DEVICE, np.int32)
        tokens[ends - counts] = first
        for row in chunks.tolist():
            start, count = int(starts[row]), min(int(counts[row]), int(known[row] - starts[row]))
            at = int(ends[row] - counts[row])
            tokens[at : at + count] = self.tokens[slots[row], start : start + count]
        return tokens

    def launch(self, slots: Slots, counts: I32) -> NDArray[np.bool_]:
        """Book a planned step; returns which rows sample a token."""
        scheduled = self.scheduled[slots] + counts
        pending = self.pending[slots]
        sample = np.asarray(scheduled == self.known[slots] + pending)
        self.scheduled[slots] = scheduled
        self.pending[slots] = pending + sample
        return sample

    def append(self, slots: Slots, tokens: I32) -> NDArray[np.bool_]:
        """A step gave each of these sequences a token; returns which of them are to be looked at one by one."""
        at = self.known[slots]
        known = at + 1
        self.tokens[slots, at] = tokens
        self.known[slots] = known
        self.pending[slots] -= 1
        return np.asarray(known >= self.watch[slots])

    def pass_on(self, request: Request) -> None:
        """A request's first token was told: it is not looked at again before it has to be."""
        params, slot = request.params, request.held.slot
        always = request.stop_ids or params.logprobs is not None
        self.watch[slot] = 0 if always else request.limit
        self.limit[slot] = request.limit

    def choose(self, slot: int, token: int) -> None:
        """Put another token in place of the last known one, whose KV is not computed, and allow one more."""
        known = int(self.known[slot])
        self.tokens[slot, known - 1] = token
        self.limit[slot] = known + 1

    def prompting(self, slots: Slots, starts: I32, counts: I32) -> NDArray[np.bool_]:
        """Which rows of a step compute a prompt, or again what a preemption lost."""
        return np.asarray((starts < self.prompt[slots]) | (counts > 1))


class RowTokens:
    """The known tokens of a running stream: its row, where the scheduler appends for all streams at once."""

    def __init__(self, rows: Rows, slot: int) -> None:
        self._rows = rows
        self._slot = slot

    @property
    def size(self) -> int:
        """How many are known."""
        return int(self._rows.known[self._slot])

    def view(self) -> I32:
        """All known tokens; valid until the next step lands. Cost: O(1)."""
        return self._rows.tokens[self._slot, : self.size]


def binding_of(request: Request) -> Binding:
    """What the worker is told of a request that has come to run."""
    tokens, prompt = request.tokens.view(), request.prompt_len
    slot, reported = request.held.slot, request.reported
    return Binding(slot, request.params, tokens[:prompt].copy(), tokens[prompt:].copy(), reported, request.told)


def spread(wanted: I32, budget: int, early: SequenceOf[int] = ()) -> I32:
    """Share a token budget: decodes first, then prompt chunks, those of ``early`` rows before others, in order."""
    if int(wanted.sum()) <= budget:
        return wanted
    rank = (wanted > 1) * 2
    rank[list(early)] = 1
    order = np.argsort(rank, kind="stable")
    before = np.cumsum(wanted[order]) - wanted[order]
    granted = np.empty_like(wanted)
    granted[order] = np.clip(budget - before, 0, wanted[order])
    return granted
