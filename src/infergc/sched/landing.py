"""Steps that land: what they sampled is booked, and whoever is done gives back what it held."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infergc.cache_control import CacheControl
from infergc.heap.heap import Heap
from infergc.heap.objects import TokenLog
from infergc.sched.branches import part, release
from infergc.sched.counters import SchedulerCounters
from infergc.sched.finish import finish_after
from infergc.sched.fitting import Admission
from infergc.sched.plan import I32, StepOutcome, StepPlan, TokenLogprobs
from infergc.sched.progress import Gain, Progress
from infergc.sched.queue import Ordering
from infergc.sched.request import Request, Status
from infergc.sched.rows import Slots
from infergc.sched.search import Hypothesis
from infergc.sched.seating import SchedulerConfig, Seating
from infergc.sched.step_times import StepTimes
from infergc.sched.trials import Trials, unit_of


class Flight(NamedTuple):
    """The rows of a step in flight: where they stood, and whose they were."""

    slots: Slots
    starts: I32
    ends: I32  # positions that are computed when it is done
    owners: NDArray[np.int64]  # ids of sequences
    names: NDArray[np.object_]  # ids of requests
    bound: tuple[tuple[int, int], ...] = ()  # slots that the worker bound with it, and whose they were


class Landing(Seating):
    """The part of the scheduler that takes what steps brought.

    Attributes:
        counters: of requests and tokens.
        times: learns what steps take.
        trials: of requests whose step failed.
    """

    def __init__(self, heap: Heap, config: SchedulerConfig, ordering: Ordering, admission: Admission) -> None:
        super().__init__(heap, config, ordering, admission)
        self.counters = SchedulerCounters()
        self.times = StepTimes()
        self.trials = Trials()
        self._booking: Flight | None = None  # the step whose outcome was booked last
        self._flights: deque[Flight] = deque()
        self._awaiting: dict[int, Request] = {}  # preempted with a token still to come, by id of the sequence it had

    def commit(self, plan: StepPlan, outcome: StepOutcome) -> Progress:
        """Book the oldest step in flight: append tokens, end requests, seal pages.

        Requests that merely go on come first, in the plan's order; then those looked at one by one: running ones
        in the plan's order, and after them ones that were preempted since.
        """
        self._booking = self._flights[0]
        self.times.landed(plan.starts, plan.counts, outcome.seconds)
        if self.tier_use is not None:
            self.tier_use.copying.learn(outcome.copied_bytes, outcome.copy_seconds)
        flight = self._land(plan)
        running = self.heap.holder[flight.slots] == flight.owners
        self._rows.computed[flight.slots[running]] = flight.ends[running]
        progress = self._progress(flight, outcome, running)
        progress.failures += self._failures(flight, outcome)
        self._settle(plan.step)
        if self.trials:
            self._acquit(flight.slots[running])
        for slot in flight.slots[running & self._filled(flight.slots, plan)].tolist():
            if slot in self._by_slot:
                self._seal(self._by_slot[slot])
        return progress

    @property
    def booked_for(self) -> dict[str, int]:
        """Whom the outcome booked last was for: ids, and tokens computed then."""
        if self._booking is None:
            return {}
        order = np.argsort(self._booking.ends, kind="stable")
        return dict(zip(self._booking.names[order].tolist(), self._booking.ends[order].tolist(), strict=True))

    def _filled(self, slots: Slots, plan: StepPlan) -> NDArray[np.bool_]:
        """Which rows filled pages that are to be published now.

        Prompts are, so that others can share them at once. Outputs are when they end, unless pages of theirs
        slide out of a window before.
        """
        size = self.heap.page_tokens
        filled = (plan.starts + plan.counts) // size > plan.starts // size
        return np.asarray(filled if self._slides else filled & self._rows.prompting(slots, plan.starts, plan.counts))

    def _progress(self, flight: Flight, outcome: StepOutcome, running: NDArray[np.bool_]) -> Progress:
        sampled = outcome.tokens >= 0
        rows = (running & sampled).nonzero()[0]
        slots, tokens = flight.slots[rows], outcome.tokens[rows]
        watched = self._rows.append(slots, tokens)
        for end in self.config.eos_ids:
            watched |= tokens == end
        goes_on = ~watched
        progress = Progress(self._rows.ids[slots[goes_on]].tolist(), tokens[goes_on].tolist())
        self._note_prompts(flight, outcome, progress)
        late = (sampled & ~running).nonzero()[0]
        for row in (*rows[watched].tolist(), *late.tolist()):
            request = self._owner(int(flight.slots[row]), int(flight.owners[row]))
            if isinstance(request, Hypothesis):
                self._stand(request, outcome.logprobs[row], progress)
            elif request is not None:
                progress.gains.append(self._gain(request, row, outcome))
        self.counters.generation_tokens += len(progress.tokens) + len(progress.gains)
        return progress

    def _note_prompts(self, flight: Flight, outcome: StepOutcome, progress: Progress) -> None:
        """Of these prompts so much more was told: it is not computed for that again."""
        for row, reports in outcome.prompts.items():
            request = self._owner(int(flight.slots[row]), int(flight.owners[row]))
            if request is None:
                continue
            request.told += len(reports)
            if outcome.tokens[row] < 0:
                progress.prompts.append((request, reports))

    def _failures(self, flight: Flight, outcome: StepOutcome) -> Iterator[tuple[Request, str]]:
        """End the requests of rows at fault, and the choices that wait for their prompts."""
        for row, why in outcome.errors.items():
            request = self._owner(int(flight.slots[row]), int(flight.owners[row]))
            yield from ((each, why) for each in self._end_all([] if request is None else [request]))

    def _stand(self, request: Hypothesis, report: TokenLogprobs, progress: Progress) -> None:
        """It is known what may follow a hypothesis; the last of a group to come so far takes all of it on."""
        if request.status in {Status.WAITING, Status.LOADING}:  # preempted meanwhile
            self._unqueue(request)
            request.status = Status.PARKED
        search = request.search
        if request.cache_control is not None:
            search.pinned = self._keep_prompt(request, request.cache_control)
        if search.land(request, report) and search.advance(self):
            self.end(search)
            progress.searches.append(search)
            self.counters.generation_tokens += search.told_tokens

    def _gain(self, request: Request, row: int, outcome: StepOutcome) -> Gain:
        token = int(outcome.tokens[row])
        if request.branches:
            part(request, self)  # before its pages may slide out of a window that branches still see
        if request.cache_control is not None:
            request.pinned = self._keep_prompt(request, request.cache_control)
        if request.status is Status.RUNNING:
            self._rows.pass_on(request)
        else:  # preempted meanwhile: its tokens stand in no row
            request.tokens = TokenLog(np.append(request.tokens.view(), np.int32(token)))
        finish = finish_after(request, token, self.config.eos_ids)
        if finish is not None:
            self.fitting.admission.learn(request.output_len)
            self._finish(request)
        return Gain(request, token, finish, outcome.logprobs.get(row), outcome.prompts.get(row, ()))

    def _keep_prompt(self, request: Request, control: CacheControl) -> int | None:
        """A prompt is computed: see to what was asked for its pages. Tokens pinned, None if no pin was asked for."""
        request.cache_control = None
        if request.status is Status.RUNNING:
            self._seal(request)
        tip = self.heap.cached(request.namespace, request.tokens.view()[: request.prompt_len])
        if tip is not None:
            self.heap.hint(tip, (request.cached or 0) // self.heap.page_tokens, control.level, control.ttl)
        return self.pins.pin(request.id, request.namespace, tip, control) if control.pin else None

    def fail(self, plan: StepPlan) -> list[Request]:
        """The oldest step in flight failed: end what it computed for, and return that; one hypothesis of a search."""
        failed = self._end_all(self._concerned(self._land(plan)))
        self._settle(plan.step)
        return failed

    def set_back(self, plan: StepPlan) -> list[Request]:
        """The oldest step in flight failed: what it computed for runs again, apart, from where it stood before.

        What the step wrote was published nowhere, and a step behind it that went on from there computes for nobody.

        Returns:
            Those that end with it, as ``fail``: they failed alone.
        """
        flight = self._land(plan)
        concerned = self._concerned(flight)
        alone = len(flight.slots) <= len(concerned) and len({unit_of(request) for request in concerned}) == 1
        for request in concerned:
            if request.status is Status.RUNNING:
                self._step_down(request)
        failed = self._end_all(self.trials.accuse(concerned, alone=alone))
        self._settle(plan.step)
        return failed

    def _concerned(self, flight: Flight) -> dict[Request, range]:
        """Requests that a step computed for, or whose slots it bound, and the positions that it was to compute.

        Whoever was preempted since is among them; ``_settle`` lets nobody wait for its token any longer.
        """
        places = map(range, flight.starts.tolist(), flight.ends.tolist())
        rows = zip(flight.slots.tolist(), flight.owners.tolist(), places, strict=True)
        concerned: dict[Request, range] = {}
        for slot, owner, place in (*rows, *((slot, owner, range(0)) for slot, owner in flight.bound if owner >= 0)):
            request = self._owner(slot, owner)
            if request is not None:
                concerned.setdefault(request, place)
        return concerned

    def _end_all(self, requests: Iterable[Request]) -> list[Request]:
        """End requests with those that are to be forked from them; one hypothesis of a search stands for all of it."""
        failed: list[Request] = []
        for request in requests:
            if request.status is Status.FINISHED:
                continue  # as its search has
            if isinstance(request, Hypothesis):
                self.cancel(request.search)
            failed += [request, *release(request)]
        for request in failed:
            self._part(request)
            self._finish(request)
        return failed

    def _acquit(self, slots: Slots) -> None:
        for slot in slots.tolist():
            if slot in self._by_slot:
                self.trials.got(self._by_slot[slot], int(self._rows.computed[slot]))

    def _land(self, plan: StepPlan) -> Flight:
        """The oldest step in flight is done."""
        self.heap.complete(plan.step)
        return self._flights.popleft()

    def _owner(self, slot: int, sequence: int) -> Request | None:
        """Whose row of a step it was; None if that request has finished since."""
        if self.heap.holder[slot] == sequence:
            return self._by_slot[slot]
        request = self._awaiting.get(sequence)
        return None if request is None or request.status is Status.FINISHED else request

    def _settle(self, step: int) -> None:
        """Steps up to ``step`` have told their tokens: who was preempted before may start again."""
        if self._awaiting:
            self._awaiting = {key: each for key, each in self._awaiting.items() if each.last_step > step}
