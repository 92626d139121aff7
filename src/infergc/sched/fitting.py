"""What must be free before a waiting request starts, so that it need not stop, or stop others, soon after."""

from typing import Protocol

import numpy as np

from infergc.heap.groups import pages_for, window_pages
from infergc.heap.heap import Heap
from infergc.heap.objects import Sequence
from infergc.sched.families import coming_pages
from infergc.sched.plan import I32
from infergc.sched.request import Request
from infergc.sched.rows import Rows, Slots


class Admission(Protocol):
    """How much requests are expected to grow."""

    def growth(self, slots: Slots, outputs: I32) -> I32:
        """Tokens that requests are expected to give yet, which have given so many; a slot tells them apart."""
        ...

    def learn(self, output: int) -> None:
        """A request ended with so many tokens."""
        ...


class Fitting:
    """The rule of admission: memory for the request's known text, and for what all are expected to grow by.

    Those that end before others make room for them: of what is expected, the peak counts, when each goes on by a
    token a step (Gong et al. 2025, Past-Future Scheduler, find the same rule to keep memory full and calm).
    """

    def __init__(self, heap: Heap, rows: Rows, admission: Admission, most_batched: int) -> None:
        self.admission = admission
        self._heap = heap
        self._rows = rows
        self._most = [window_pages(spec, heap.page_tokens, most_batched) for spec in heap.config.groups]

    def needs(self, request: Request, sequence: Sequence, cached: int, running: Slots) -> list[int]:
        """Pages of each group that are to be there; for a request alone, those of its known text. Cost: O(running)."""
        size = self._heap.page_tokens
        rest = pages_for(request.tokens.size, size) - cached // size
        held = [int(table.held[sequence.slot]) for table in self._heap.tables]
        own = [min(rest, most - has + bool(cached % size)) for most, has in zip(self._most, held, strict=True)]
        if not len(running):
            return own
        others, grown = self._unwritten(running), self._grown(request, sequence.slot, cached, running)
        family = coming_pages(request, size)
        least = len(running)  # a page for each that runs to go on
        return [
            need + other + (max(least, grown) + family if spec.window is None else least)
            for need, other, spec in zip(own, others, self._heap.config.groups, strict=True)
        ]

    def _unwritten(self, running: Slots) -> list[int]:
        """Pages by group that running prompts lack yet."""
        size = self._heap.page_tokens
        known, granted = self._rows.known[running], self._heap.length[running]
        behind = (known - granted > 1).nonzero()[0]  # who decodes has at most its last token to compute
        if not len(behind):
            return [0] * len(self._most)
        slots = running[behind]
        lacking = -(-known[behind] // size) + -granted[behind] // size
        return [
            int(np.minimum(lacking, np.maximum(most - table.held[slots], 0)).sum())
            for most, table in zip(self._most, self._heap.tables, strict=True)
        ]

    def _grown(self, request: Request, slot: int, cached: int, running: Slots) -> int:
        """Pages that all are expected to need beyond those of their known texts."""
        rows = self._rows
        slots = np.append(running, slot)
        outputs = np.append(rows.known[running] - rows.prompt[running], request.output_len)
        limits = np.append(rows.limit[running] - rows.known[running], request.limit - request.tokens.size)
        growth = np.minimum(self.admission.growth(slots, outputs), np.maximum(limits, 0))
        growth[-1] *= 1 + len(request.branches)
        freed = np.append(rows.known[running] - rows.shared[running], request.tokens.size - cached)
        return pages_for(peak(growth, freed), self._heap.page_tokens)


def peak(growth: I32, freed: I32) -> int:
    """The most tokens that sequences hold beyond now, when each grows by one a step and those that end free theirs.

    Args:
        growth: [S] tokens that each grows by before it ends.
        freed: [S] tokens that it holds now and others do not.
    """
    order = np.argsort(growth, kind="stable")
    grown = growth[order].astype(np.int64)
    gone = np.cumsum(freed[order], dtype=np.int64) - freed[order]  # by those that end before
    return max(0, int((np.arange(len(order), 0, -1) * grown - gone).max(initial=0)))
