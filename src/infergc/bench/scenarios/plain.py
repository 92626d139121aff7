"""A plain serving loop for the baselines: what the engine decides, over memory that the engine does not have.

First come first served, continuous batching with chunked prefill, the last preempted by recomputation; steps take
what the same cost model says. Over pages it does as the engine does, step by step (``tests/pure/test_scenarios.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infergc.bench.scenarios.allocators import Allocator
from infergc.bench.scenarios.outcome import GivenUp, Limits
from infergc.sched.plan import I32, StepPlan
from infergc.sched.rows import spread
from infergc.sim.cost import CostModel
from infergc.sim.requests import TraceRequest
from infergc.sim.served import Progress


@dataclass(slots=True, eq=False)
class Text:
    """A request on its way.

    Attributes:
        number: of the request.
        known: tokens of prompt and output so far.
        limit: tokens that it ends with.
        computed: tokens whose KV is there.
    """

    number: int
    known: int
    limit: int
    computed: int = 0


def step_plan(step: int, starts: I32, counts: I32, sample: NDArray[np.bool_]) -> StepPlan:
    """A step as cost models read it: rows and what they compute; with neither slots, tokens nor tables."""
    no_ids = np.broadcast_to(np.int32(0), int(counts.sum()))  # only their number is read
    return StepPlan(step, np.arange(len(starts), dtype=np.int32), starts, counts, no_ids, sample, ())


class PlainLoop:
    """Serves a workload in simulated time.

    Args:
        requests: in order of arrival.
        memory: what holds their KV.
        cost: of a step.
        seats: most texts in a step.
        batch: most tokens in a step.
        copy_rate: tokens a second at which KV is copied when a buffer grows.

    Attributes:
        now: seconds after the workload began.
        steps: that were run.
        preemptions: times that a text gave its memory back.
        preempted: numbers of those that did.
        over: requests that have ended.
    """

    def __init__(
        self,
        requests: Sequence[TraceRequest],
        memory: Allocator,
        cost: CostModel,
        seats: int,
        batch: int,
        copy_rate: float,
    ) -> None:
        self.now = 0.0
        self.steps = self.preemptions = self.over = 0
        self.preempted: set[int] = set()
        self._requests, self._memory, self._cost = requests, memory, cost
        self._seats, self._batch, self._copy_rate = seats, batch, copy_rate
        self._running: list[Text] = []  # in order of arrival, as they come first
        self._waiting: list[Text] = []  # the first to go stands last
        self._next = 0

    def run(self, limits: Limits, progress: Progress) -> None:
        """Go on until all have ended.

        Raises:
            GivenUp: over the limits, or memory is too small for a text alone.
        """
        while self._running or self._waiting or self._next < len(self._requests):
            if not (self._running or self._waiting):
                self.now = max(self.now, self._requests[self._next].arrival)
            self._arrive()
            over = self.over
            self._step()
            limits.check(self.now, len(self.preempted))
            progress(self.over - over)

    def _arrive(self) -> None:
        new: list[Text] = []
        while self._next < len(self._requests) and self._requests[self._next].arrival <= self.now:
            request = self._requests[self._next]
            new.append(Text(self._next, request.input_len, request.input_len + request.output_len))
            self._next += 1
        self._waiting[:0] = reversed(new)

    def _step(self) -> None:
        rows, counts, short = self._go_on()
        if not short:
            self._admit(rows, counts, self._batch - sum(counts))
        if not rows:
            raise GivenUp
        self._land(rows, counts)

    def _go_on(self) -> tuple[list[Text], list[int], bool]:
        """Rows and tokens of texts that run, decodes before chunks; whether one had to wait or to give way."""
        if not self._running:
            return [], [], False
        wanted = np.array([text.known - text.computed for text in self._running], np.int32)
        granted = zip(list(self._running), spread(wanted, self._batch).tolist(), strict=True)
        rows: list[Text] = []
        counts: list[int] = []
        before = self.preemptions
        for at, (text, count) in enumerate(granted):
            runs = at < len(self._running)  # who gives way stands last
            if count and runs and self._make_way(text, text.computed + count):
                rows.append(text)
                counts.append(count)
        return rows, counts, self.preemptions > before

    def _make_way(self, text: Text, tokens: int) -> bool:
        """Preempt from the last on until there is memory; False if the text itself gave way."""
        while not self._memory.grow(text.number, tokens):
            if len(self._running) == 1:
                raise GivenUp
            victim = self._running.pop()
            self._memory.free(victim.number)
            victim.computed = 0
            self._waiting.append(victim)
            self.preemptions += 1
            self.preempted.add(victim.number)
            if victim is text:
                return False
        return True

    def _admit(self, rows: list[Text], counts: list[int], budget: int) -> None:
        while budget > 0 and self._waiting and len(self._running) < self._seats:
            text = self._waiting[-1]
            count = min(text.known, budget)
            if not self._memory.admit(text.number, text.known, count, len(self._running)):
                return
            self._running.append(self._waiting.pop())
            rows.append(text)
            counts.append(count)
            budget -= count

    def _land(self, rows: list[Text], counts: list[int]) -> None:
        starts, lengths = np.array([text.computed for text in rows], np.int32), np.array(counts, np.int32)
        known = np.array([text.known for text in rows], np.int32)
        sample = starts + lengths == known
        self.now += self._cost.seconds(step_plan(self.steps, starts, lengths, sample))
        self.now += self._memory.copied / self._copy_rate
        self._memory.copied = 0
        self.steps += 1
        for text, count, sampled in zip(rows, counts, sample.tolist(), strict=True):
            text.computed += count
            text.known += sampled
            if text.known == text.limit:
                self._running.remove(text)
                self._memory.free(text.number)
                self.over += 1
