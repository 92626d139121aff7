"""The scheduler: continuous batching with chunked prefill over a heap it never overdraws.

``plan`` makes the next step while earlier ones may be in flight; ``commit`` books an outcome. Both run at
safepoints, on the engine's thread.
"""

from collections import deque
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from infergc.heap.errors import HeapCorruption
from infergc.heap.groups import GroupSpec, pages_for
from infergc.heap.heap import Heap
from infergc.heap.objects import Sequence
from infergc.sched.finish import Finish, finish_after
from infergc.sched.plan import I32, Binding, StepOutcome, StepPlan, TokenLogprobs
from infergc.sched.queue import Ordering, RequestQueue
from infergc.sched.request import Request, Status
from infergc.sched.rows import Rows, spread


class Preemption(Protocol):
    """Who gives way when memory runs short."""

    def victim(self, running: SequenceOf[Request]) -> Request:
        """Choose among the running requests, given in order."""
        ...


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Limits of a step, and the ids that end a text."""

    max_num_seqs: int
    max_num_batched_tokens: int
    eos_ids: frozenset[int]


@dataclass(slots=True)
class SchedulerCounters:
    """Running totals since start."""

    preemptions: int = 0
    prompt_tokens: int = 0  # of requests admitted for the first time
    generation_tokens: int = 0
    prefix_queries: int = 0  # prompt tokens looked up, first admissions only
    prefix_hits: int = 0  # of those, found
    recomputed_tokens: int = 0  # computed before, lost by preemption, computed again


class Progress(NamedTuple):
    """A token that a request gained, and how it ended if it did."""

    request: Request
    token: int
    finish: Finish | None
    logprobs: TokenLogprobs | None = None


class Scheduler:
    """Decides what each step computes."""

    def __init__(self, heap: Heap, config: SchedulerConfig, ordering: Ordering, preemption: Preemption) -> None:
        self.heap = heap
        self.config = config
        self.counters = SchedulerCounters()
        self.waiting = RequestQueue(ordering)
        self.running = RequestQueue(ordering)
        self._preemption = preemption
        self._rows = Rows(config.max_num_seqs)
        self._eos_ids = np.array(sorted(config.eos_ids), np.int32)
        self._by_slot: dict[int, Request] = {}
        self._flights: deque[tuple[Request, ...]] = deque()
        self._order: I32 | None = None  # slots of running requests in order; None after a change

    # ---- requests

    def add(self, request: Request) -> None:
        """Queue a new request."""
        self.waiting.add(request)

    def abort(self, request: Request) -> None:
        """End a request now. What it holds is free within the step, or when the steps that read it are done."""
        self._finish(request)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to plan and nothing in flight."""
        return not (self.waiting or self.running or self._flights)

    # ---- planning

    def plan(self) -> StepPlan | None:
        """Plan the next step; None if nothing can be computed now.

        Running sequences come first, decodes before prompt chunks; then requests are admitted while tokens,
        slots and memory last. A sequence that memory refuses waits for pages in transit, and where there are
        none the policy's victim is preempted.
        """
        slots, counts, refused = self._continue_running()
        bindings: tuple[Binding, ...] = ()
        if not refused:
            new_slots, new_counts, bindings = self._admit(self.config.max_num_batched_tokens - int(counts.sum()))
            slots, counts = np.concatenate((slots, new_slots)), np.concatenate((counts, new_counts))
        return self._make_plan(slots, counts, bindings) if len(slots) else None

    def _continue_running(self) -> tuple[I32, I32, bool]:
        slots = self._running_slots()
        counts = spread(self._rows.wanted(slots), self.config.max_num_batched_tokens)
        slots, counts = slots[counts > 0], counts[counts > 0]
        kept = self._grant(slots, counts)
        return slots[kept], counts[kept], not kept.all()

    def _grant(self, slots: I32, counts: I32) -> NDArray[np.bool_]:
        """Reserve memory for these growths; returns the rows that go on."""
        lengths = self._rows.scheduled[slots] + counts
        crossing = self.heap.crossing(slots, lengths)
        kept = np.ones(len(slots), np.bool_)
        rows = np.flatnonzero(crossing).tolist()
        wants = [(self._by_slot[int(slots[row])].held, int(lengths[row])) for row in rows]
        if wants and not self.heap.reserve(wants):
            kept = self._grant_in_order(slots, lengths, rows)
        easy = kept & ~crossing
        self.heap.advance(slots[easy], lengths[easy])
        return kept

    def _grant_in_order(self, slots: I32, lengths: I32, rows: list[int]) -> NDArray[np.bool_]:
        """Memory is short: serve the first in order, and let the last give way."""
        kept = np.ones(len(slots), np.bool_)
        row_of = {int(slot): row for row, slot in enumerate(slots)}
        refused = False
        for row in rows:
            request = self._by_slot.get(int(slots[row]))
            if request is None:
                continue  # preempted for an earlier row
            refused = refused or not self._make_way(request, int(lengths[row]), row_of, kept)
            kept[row] &= not refused
        return kept

    def _make_way(self, request: Request, length: int, row_of: dict[int, int], kept: NDArray[np.bool_]) -> bool:
        """Preempt until the request has its pages. False: it must wait, or it was preempted itself."""
        while not self.heap.reserve([(request.held, length)]):
            if self.heap.held:
                return False  # pages in transit come free when the steps in flight are done
            victim = self._preemption.victim(list(self.running))
            if len(self.running) == 1:
                raise HeapCorruption(f"law 9: {request.id} runs alone and memory for {length} tokens is refused")
            row = row_of.get(victim.held.slot)
            if row is not None:
                kept[row] = False
            self._preempt(victim)
            if victim is request:
                return False
        return True

    def _preempt(self, victim: Request) -> None:
        """Give the victim's pages back; published ones stay cached as long as memory allows."""
        slot = victim.held.slot
        victim.computed = int(self._rows.computed[slot])
        victim.preemptions += 1
        self.counters.preemptions += 1
        self._leave(victim)
        victim.status = Status.WAITING
        self.waiting.add(victim)

    # ---- admission

    def _admit(self, budget: int) -> tuple[I32, I32, tuple[Binding, ...]]:
        slots: list[int] = []
        counts: list[int] = []
        bindings: list[Binding] = []
        while budget > 0 and (request := self.waiting.first()) is not None:
            count = self._admit_one(request, budget)
            if not count:
                break
            slots.append(request.held.slot)
            counts.append(count)
            bindings.append(_binding(request))
            budget -= count
        return np.array(slots, np.int32), np.array(counts, np.int32), tuple(bindings)

    def _admit_one(self, request: Request, budget: int) -> int:
        """Let a request start, with what the prefix cache has of it; returns the tokens it computes, 0 if it waits."""
        if request.in_flight:
            return 0  # preempted a moment ago: its last token is still to come
        count = self._start(request, budget)
        if count or self.running or self.heap.held:
            return count
        # Alone, it must fit. The source of a copied page is one page that it does not need itself: do without.
        count = self._start(request, budget, whole_pages=True)
        if not count:
            raise HeapCorruption(f"law 9: {request.id} would run alone, and memory for its text is refused")
        return count

    def _start(self, request: Request, budget: int, *, whole_pages: bool = False) -> int:
        sequence = self.heap.open(request.id, request.tokens, request.namespace)
        if sequence is None:
            return 0
        known = request.tokens.size
        cached = self.heap.share_prefix(sequence, known - 1, whole_pages=whole_pages)
        count = min(known - cached, budget)
        if not (self._fits(request, sequence, cached) and self.heap.reserve([(sequence, cached + count)])):
            self.heap.close(sequence)
            return 0
        request.sequence = sequence
        self._enter(request, cached)
        return count

    def _fits(self, request: Request, sequence: Sequence, cached: int) -> bool:
        """Whether memory covers the whole known text, what running prompts still need, and a page for each decode.

        It keeps a new request from starting only to be preempted, or to preempt, a few steps later.
        """
        size = self.heap.page_tokens
        slots = self._running_slots()
        coming = (-(-self._rows.known[slots] // size) - -(-self._rows.scheduled[slots] // size)).clip(0)
        rest = pages_for(request.tokens.size, size) - cached // size
        needs = []
        for spec, table in zip(self.heap.config.groups, self.heap.tables, strict=True):
            most = window_pages(spec, size, self.config.max_num_batched_tokens)
            own = min(rest, most - int(table.held[sequence.slot]) + bool(cached % size))
            needs.append(own + int(np.minimum(coming, most).sum()) + len(slots))
        return self.heap.grantable(needs)

    def _enter(self, request: Request, cached: int) -> None:
        self.waiting.remove(request)
        self.running.add(request)
        request.status = Status.RUNNING
        self._by_slot[request.held.slot] = request
        self._order = None
        self._rows.enter(request, cached)
        if request.cached is None:
            request.cached = cached
            self.counters.prompt_tokens += request.prompt_len
            self.counters.prefix_queries += request.prompt_len
            self.counters.prefix_hits += cached
        else:
            self.counters.recomputed_tokens += max(0, request.computed - cached)

    # ---- launching and landing

    def _make_plan(self, slots: I32, counts: I32, bindings: tuple[Binding, ...]) -> StepPlan:
        requests = tuple(self._by_slot[slot] for slot in slots.tolist())
        starts = self._rows.scheduled[slots]
        inputs = self._inputs(requests, slots, starts, counts)
        step = self.heap.planning
        sequences = tuple(request.held for request in requests)
        tables = self.heap.begin_step(sequences, slots, starts, counts)
        for request in requests:
            request.in_flight += 1
        self._flights.append(requests)
        sample = self._rows.launch(slots, counts)
        return StepPlan(step, slots, starts, counts, inputs, sample, tables, self.heap.take_moves(), bindings)

    def _inputs(self, requests: tuple[Request, ...], slots: I32, starts: I32, counts: I32) -> I32:
        singles = self._rows.decode_inputs(slots)
        if (counts == 1).all() and (starts + 1 >= self._rows.known[slots]).all():
            return singles
        ends = starts + counts
        pieces = [
            request.tokens.view()[start:end] if end <= request.tokens.size else singles[row : row + 1]
            for row, (request, start, end) in enumerate(zip(requests, starts.tolist(), ends.tolist(), strict=True))
        ]
        return np.concatenate(pieces)

    def commit(self, plan: StepPlan, outcome: StepOutcome) -> list[Progress]:
        """Book the oldest step in flight: append tokens, seal pages, end requests; in the plan's order."""
        requests = self._land(plan)
        running = np.array([request.status is Status.RUNNING for request in requests], np.bool_)
        ends = plan.starts + plan.counts
        self._rows.land(plan.slots[running], ends[running], outcome.tokens[running])
        may_end = ~running | self._rows.may_end(plan.slots, outcome.tokens, self._eos_ids)
        progress = self._append(requests, outcome, may_end.tolist())
        size = self.heap.page_tokens
        for row in np.flatnonzero(ends // size > plan.starts // size).tolist():
            if requests[row].status is Status.RUNNING:
                self._seal(requests[row])
        return progress

    def _append(self, requests: tuple[Request, ...], outcome: StepOutcome, may_end: list[bool]) -> list[Progress]:
        progress = []
        for row, (request, token) in enumerate(zip(requests, outcome.tokens.tolist(), strict=True)):
            if token < 0 or request.status is Status.FINISHED:
                continue
            request.tokens.append(token)
            finish = finish_after(request, token, self.config.eos_ids) if may_end[row] else None
            if finish is not None:
                self._finish(request)
            progress.append(Progress(request, token, finish, outcome.logprobs.get(row)))
        self.counters.generation_tokens += len(progress)
        return progress

    def fail(self, plan: StepPlan) -> list[Request]:
        """The oldest step in flight failed: end the requests it computed for and return them."""
        failed = [request for request in self._land(plan) if request.status is not Status.FINISHED]
        for request in failed:
            self._finish(request)
        return failed

    def _land(self, plan: StepPlan) -> tuple[Request, ...]:
        self.heap.complete(plan.step)
        requests = self._flights.popleft()
        for request in requests:
            request.in_flight -= 1
        return requests

    def _seal(self, request: Request) -> None:
        computed = int(self._rows.computed[request.held.slot])
        self.heap.publish(request.held, computed)
        self.heap.slide(request.held, computed)

    def _finish(self, request: Request) -> None:
        """End a request and drop its roots."""
        if request.status is Status.WAITING:
            self.waiting.remove(request)
        elif request.status is Status.RUNNING:
            self._leave(request)
        request.status = Status.FINISHED

    def _leave(self, request: Request) -> None:
        """Stop running: roll back what is planned but not computed, publish the rest, close the sequence."""
        sequence = request.held
        computed = int(self._rows.computed[sequence.slot])
        self.heap.truncate(sequence, computed)
        self.heap.publish(sequence, computed)
        self.heap.close(sequence)
        self.running.remove(request)
        del self._by_slot[sequence.slot]
        request.sequence = None
        self._order = None

    def _running_slots(self) -> I32:
        if self._order is None:
            self._order = np.array([request.held.slot for request in self.running], np.int32)
        return self._order


def window_pages(spec: GroupSpec, page_tokens: int, chunk: int) -> int:
    """Most pages that one sequence holds in a group: its window, a chunk being computed and one in transit.

    Assembly gives every group room for this much, or for the longest text if that is less: so one request
    alone always fits, however the cache stands.
    """
    if spec.window is None:
        return spec.capacity
    return pages_for(spec.window + 2 * chunk, page_tokens) + 1


def _binding(request: Request) -> Binding:
    tokens = request.tokens.view()
    return Binding(
        request.held.slot,
        request.params,
        tokens[: request.prompt_len].copy(),
        tokens[request.prompt_len :].copy(),
    )
