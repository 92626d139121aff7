"""The scheduler: continuous batching with chunked prefill over a heap it never overdraws.

``plan`` makes the next step while earlier ones may be in flight; ``commit`` books an outcome. Both run at
safepoints, on the engine's thread.
"""

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infergc.heap.errors import HeapCorruption
from infergc.heap.heap import Heap
from infergc.heap.objects import Sequence
from infergc.sched.families import leaving
from infergc.sched.fitting import Admission
from infergc.sched.landing import Flight, Landing
from infergc.sched.plan import I32, StepPlan
from infergc.sched.queue import Ordering
from infergc.sched.request import Request, Status
from infergc.sched.rows import Slots, binding_of, spread
from infergc.sched.search import Hypothesis
from infergc.sched.seating import SchedulerConfig
from infergc.sched.sharing import Sharing


class Preemption(Protocol):
    """Who gives way when memory runs short."""

    def victim(self, running: SequenceOf[Request]) -> Request:
        """Choose among the running requests, given in order."""
        ...


class Scheduler(Landing):
    """Decides what each step computes."""

    def __init__(
        self, heap: Heap, config: SchedulerConfig, ordering: Ordering, preemption: Preemption, admission: Admission
    ) -> None:
        super().__init__(heap, config, ordering, admission)
        self._preemption = preemption
        self._about: SequenceOf[Request] | None = None  # whom what is being planned is for; None: all that run
        self._sharing = Sharing(self._rows, self.times, config.max_num_batched_tokens)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to plan and nothing in flight."""
        at_rest = self.tier_use is None or self.tier_use.at_rest
        return at_rest and not (self.waiting or self.running or self._flights)

    # ---- planning

    def plan(self) -> StepPlan | None:
        """Plan the next step; None if nothing can be computed now.

        Running sequences come first, decodes before prompt chunks; then requests are admitted while there is room.
        Who is refused memory has garbage freed, waits for pages in transit, or idle sessions go, then victims;
        pins go where nobody else is left to.
        """
        self._about = None
        if self.trials:
            if self._flights:
                return None  # whoever is under suspicion runs apart in time too
            tried = self._try(self.trials.group())
            if tried is not None:
                return tried
        slots, counts, refused = self._continue_running(self.at_the_door)
        if not refused and len(self.running) < self.config.max_num_seqs:
            self.look()
        if not refused and self._may_admit():
            left = self.config.max_num_batched_tokens - int(counts.sum())
            new_slots, new_counts = self._admit(left, self._line())
            slots, counts = np.concatenate((slots, new_slots)), np.concatenate((counts, new_counts))
        if not len(slots) and not self._flights:
            slots, counts = self._break_stall()
        self.waits_for = self._why_wait(counts)
        copies = self.tier_use is not None and self.tier_use.plan_copies()
        return self._make_plan(slots, counts) if len(slots) or copies else None

    def planned_for(self) -> dict[str, int]:
        """Whom a plan that failed was for: who asked for memory, or else all in the step. Ids, and tokens known."""
        about = self.running if self._about is None else self._about
        return {request.id: request.tokens.size for request in about}

    def _try(self, group: SequenceOf[Request]) -> StepPlan | None:
        """Plan a step of these alone; None where none of them can go on or start as things are."""
        budget, self._about = self.config.max_num_batched_tokens, group
        slots = np.array([each.held.slot for each in group if each.status is Status.RUNNING], np.intp)
        counts = spread(self._rows.wanted(slots), budget)
        slots, counts = slots[counts > 0], counts[counts > 0]
        kept = self._grant(slots, counts)
        slots, counts = slots[kept], counts[kept]
        waiting = [each for each in group if each.status is Status.WAITING] if kept.all() else []
        new_slots, new_counts = self._admit(budget - int(counts.sum()), iter(waiting))
        slots, counts = np.concatenate((slots, new_slots)), np.concatenate((counts, new_counts))
        return self._make_plan(slots, counts) if len(slots) else None

    def _continue_running(self, waiting: int) -> tuple[Slots, I32, bool]:
        """Let those that run go on, beside so many that may start."""
        slots = self._running_slots()
        counts = self._sharing.spread(slots, waiting, queued=bool(self._flights))
        if not counts.all():
            slots, counts = slots[counts > 0], counts[counts > 0]
        kept = self._grant(slots, counts)
        if kept.all():
            return slots, counts, False
        return slots[kept], counts[kept], True

    def _grant(self, slots: Slots, counts: I32) -> NDArray[np.bool_]:
        """Reserve memory for these growths; returns the rows that go on."""
        lengths = self._rows.scheduled[slots] + counts
        crossing = self.heap.crossing(slots, lengths)
        kept = np.ones(len(slots), np.bool_)
        rows = crossing.nonzero()[0]
        wants = zip(slots[rows].tolist(), lengths[rows].tolist(), strict=True)
        if not self.heap.reserve([(self._by_slot[slot].held, length) for slot, length in wants]):
            kept = self._grant_in_order(slots, lengths, rows.tolist())
        easy = kept & ~crossing
        self.heap.advance(slots[easy], lengths[easy])
        return kept

    def _grant_in_order(self, slots: Slots, lengths: I32, rows: list[int]) -> NDArray[np.bool_]:
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
        self._about = (request,)
        while not self.heap.reserve([(request.held, length)]):
            if self._find_garbage():
                continue
            if self.heap.held:
                return False  # pages in transit come free when the steps in flight are done
            if self.sessions.shed() or (len(self.running) == 1 and self.pins.shed()):
                continue
            victim = self._preemption.victim(list(self.running))
            if len(self.running) == 1:
                raise HeapCorruption(f"law 9: {request.id} runs alone and memory for {length} tokens is refused")
            self._give_way(victim, row_of, kept)
            if request.status is not Status.RUNNING:
                return False
        return True

    def _give_way(self, victim: Request, row_of: dict[int, int], kept: NDArray[np.bool_]) -> None:
        """Preempt a victim and who goes with it."""
        for member in leaving(victim, self.running):
            row = row_of.get(member.held.slot)
            if row is not None:
                kept[row] = False
            self._preempt(member)

    def _preempt(self, victim: Request) -> None:
        """Give the victim's pages back. A step in flight may have a token for it yet."""
        if self.heap.last_step(victim.held) > self.heap.completed:
            self._awaiting[victim.held.id] = victim
        victim.preemptions += 1
        self.counters.preemptions += 1
        self._step_down(victim, keeps=True)

    def _break_stall(self) -> tuple[Slots, I32]:
        """Nothing goes on: long prompts left the step to who could not start, and have it after all.

        Or whoever runs is a hypothesis that stands: they give way to those their groups wait for.
        """
        slots, counts, _ = self._continue_running(0)
        while self.running and self.waiting and not len(slots):
            self._preempt(self._preemption.victim(list(self.running)))
            slots, counts = self._admit(self.config.max_num_batched_tokens, self._line())
        return slots, counts

    # ---- admission

    def _may_admit(self) -> bool:
        """Whether a slot is free, and the first in line was not refused already with things as they are."""
        first = self.waiting.first()
        has_slot = len(self.running) < self.config.max_num_seqs
        return first is not None and has_slot and not self._stays_refused(first)

    def _line(self) -> Iterator[Request]:
        """Whoever is first in line, as long as somebody is."""
        while (request := self.waiting.first()) is not None:
            if not self._reads_first(request):
                yield request

    def _admit(self, budget: int, line: Iterator[Request]) -> tuple[Slots, I32]:
        """Let waiting requests start, until one cannot; returns slots and tokens to compute.

        They stay bound though planning fails after it: what is planned next has them among those that run.
        """
        slots: list[int] = []
        counts: list[int] = []
        while budget > 0 and (request := next(line, None)) is not None:
            count = self._admit_one(request, budget)
            if not count:
                break
            slots.append(request.held.slot)
            counts.append(count)
            self._bound.append(binding_of(request))
            budget -= count
            self._sharing.came(request.held.slot, count)
        return np.array(slots, np.intp), np.array(counts, np.int32)

    def _admit_one(self, request: Request, budget: int) -> int:
        """Let a request start, with what the prefix cache has of it; returns the tokens it computes, 0 if it waits."""
        if request.last_step > self.heap.completed:
            return 0  # preempted a moment ago: its last token is still to come
        self._refused, self._about = None, (request,)
        while not (count := self._start(request, budget)) and self._make_room(request):
            self._refused = None
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
        cached = self.heap.share_prefix(sequence, request.reusable, whole_pages=whole_pages)
        if isinstance(request, Hypothesis):
            sequence, cached = self._rejoin(request, sequence, cached)
            if sequence is None:
                return 0
        fits = self.heap.grantable(self.fitting.needs(request, sequence, cached, self._running_slots()))
        if fits and self.tier_use is not None and (below := self.tier_use.find(request)):
            if cached % self.heap.page_tokens and not whole_pages:
                self.heap.close(sequence)
                return self._start(request, budget, whole_pages=True)
            cached = self.tier_use.restore(request, sequence, below, cached)
        count = self._sharing.chunk(cached, known, budget)
        try:
            granted = fits and self.heap.reserve([(sequence, cached + count)])
        except HeapCorruption:
            self.heap.close(sequence)  # it is opened again where what was found could be mended
            raise
        if not granted:
            self.heap.close(sequence)
            self._refuse(request)
            return 0
        self._enter(request, sequence, cached)
        return count

    def _enter(self, request: Request, sequence: Sequence, cached: int) -> None:
        self.waiting.remove(request)
        self._sit(request, sequence, cached)
        if self.tier_use is not None:
            self.tier_use.release(request)
        if request.cached is None:
            request.cached = cached
            self.started.append(request)
            self.heap.asked(sequence, request.prompt_len)
            self.counters.prompt_tokens += request.prompt_len
            self.counters.prefix_queries += 0 if request.tells_prompt else request.prompt_len
            self.counters.prefix_hits += cached
            self.counters.prefix_hits_host += request.restored
            self.counters.prefix_hits_disk += min(request.restored, request.read)
        else:
            self.counters.recomputed_tokens += max(0, request.computed - cached)

    # ---- launching

    def _make_plan(self, slots: Slots, counts: I32) -> StepPlan:
        self._about = self.trials.group() or None
        starts = self._rows.scheduled[slots]
        inputs = self._rows.inputs(slots, starts, counts)
        step = self.heap.planning
        self.heap.compact()
        tables = self.heap.begin_step(slots, starts, counts)
        bindings, self._bound = tuple(self._bound), []
        bound = tuple((one.slot, int(self.heap.holder[one.slot])) for one in bindings)
        self._flights.append(
            Flight(slots, starts, starts + counts, self.heap.holder[slots], self._rows.ids[slots], bound)
        )
        sample = self._rows.launch(slots, counts)
        rows, moves = slots.astype(np.int32), self.heap.take_moves()
        return StepPlan(step, rows, starts, counts, inputs, sample, tables, moves, bindings)
