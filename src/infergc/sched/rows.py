"""The state of running sequences as columns of arrays, one row a slot, so that a step is array arithmetic."""

import numpy as np
from numpy.typing import NDArray

from infergc.sched.plan import FROM_DEVICE, I32
from infergc.sched.request import Request


class Rows:
    """Token counts by slot. Always computed ≤ scheduled ≤ known + pending ≤ limit.

    Columns: ``known`` tokens whose ids are known; ``pending`` tokens that steps in flight will sample;
    ``scheduled`` tokens whose KV is computed or planned; ``computed`` tokens whose KV is computed;
    ``limit`` most tokens; ``last`` the last known token; ``stops`` whether the request has stop ids of its own.
    """

    def __init__(self, slots: int) -> None:
        self.known: I32 = np.zeros(slots, np.int32)
        self.pending: I32 = np.zeros(slots, np.int32)
        self.scheduled: I32 = np.zeros(slots, np.int32)
        self.computed: I32 = np.zeros(slots, np.int32)
        self.limit: I32 = np.zeros(slots, np.int32)
        self.last: I32 = np.zeros(slots, np.int32)
        self.stops: NDArray[np.bool_] = np.zeros(slots, np.bool_)

    def enter(self, request: Request, cached: int) -> None:
        """A request starts to run with the KV of its first ``cached`` tokens at hand."""
        slot = request.held.slot
        self.known[slot] = request.tokens.size
        self.pending[slot] = 0
        self.scheduled[slot] = self.computed[slot] = cached
        self.limit[slot] = request.limit
        self.last[slot] = request.tokens.view()[-1]
        self.stops[slot] = bool(request.stop_ids)

    def wanted(self, slots: I32) -> I32:
        """Tokens each sequence could compute now; 0 once its last token is in flight."""
        total = self.known[slots] + self.pending[slots]
        return np.where(total < self.limit[slots], total - self.scheduled[slots], 0).astype(np.int32)

    def decode_inputs(self, slots: I32) -> I32:
        """The input token of sequences that compute one token: known, or still on the device."""
        return np.where(self.pending[slots] > 0, FROM_DEVICE, self.last[slots]).astype(np.int32)

    def launch(self, slots: I32, counts: I32) -> NDArray[np.bool_]:
        """Book a planned step; returns which rows sample a token."""
        self.scheduled[slots] += counts
        sample = self.scheduled[slots] == self.known[slots] + self.pending[slots]
        self.pending[slots] += sample
        return np.asarray(sample)

    def land(self, slots: I32, ends: I32, tokens: I32) -> None:
        """Book a finished step: KV up to ``ends`` is computed, and ``tokens`` ≥ 0 are known."""
        self.computed[slots] = ends
        sampled = tokens >= 0
        self.known[slots[sampled]] += 1
        self.pending[slots[sampled]] -= 1
        self.last[slots[sampled]] = tokens[sampled]

    def may_end(self, slots: I32, tokens: I32, eos_ids: I32) -> NDArray[np.bool_]:
        """Which sequences could end with these tokens: all others surely go on."""
        return np.asarray(np.isin(tokens, eos_ids) | self.stops[slots] | (self.known[slots] >= self.limit[slots]))


def spread(wanted: I32, budget: int) -> I32:
    """Share a token budget: decodes first, then prompt chunks, each in the order given."""
    order = np.argsort(wanted > 1, kind="stable")
    before = np.cumsum(wanted[order]) - wanted[order]
    granted = np.empty_like(wanted)
    granted[order] = np.clip(budget - before, 0, wanted[order])
    return granted
