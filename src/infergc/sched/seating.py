"""Who runs, in which slot: requests that hold a sequence, and how others come to sit beside them by forking."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from infergc.heap.heap import Heap
from infergc.heap.objects import Sequence, Session, TokenLog
from infergc.sched.branches import release
from infergc.sched.deadlines import Deadlines
from infergc.sched.fitting import Admission, Fitting
from infergc.sched.pins import Pins
from infergc.sched.plan import I32, Binding
from infergc.sched.queue import Ordering, RequestQueue
from infergc.sched.request import Request, Status
from infergc.sched.rows import Rows, Slots, binding_of
from infergc.sched.search import BeamSearch, Hypothesis
from infergc.sched.sessions import Sessions
from infergc.sched.tier_use import TierUse
from infergc.sched.waits import MEMORY, SLOTS, STEP, TOKENS

LOOKED_AHEAD, LOOKED_BEHIND = 4, 4  # waiting requests whose cached tokens are looked up anew for each step


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Limits of a step and of a text, and the ids that end one."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int  # no request's ``limit`` is more
    eos_ids: frozenset[int]
    max_sessions: int = 1024


class Seating:
    """The requests that wait and those that run, the latter's rows, and every way to take or give back a slot.

    Attributes:
        deadlines: until when requests may wait to be started.
        started: requests that started for the first time; whoever reads them clears them.
        waits_for: why the first in line was left waiting by the last plan, of ``sched.waits``.
    """

    def __init__(self, heap: Heap, config: SchedulerConfig, ordering: Ordering, admission: Admission) -> None:
        self.heap = heap
        self.config = config
        self.sessions = Sessions(heap, config.max_sessions)
        self.pins = Pins(heap)
        self.deadlines = Deadlines()
        self.started: list[Request] = []
        self.waits_for = STEP
        self.waiting = RequestQueue(ordering)
        self.running = RequestQueue(ordering)
        self.tier_use: TierUse | None = None  # where there are tiers below the device
        self._ordering = ordering
        self._work = 0  # tokens of the prompts that have come
        self._rows = Rows(config.max_num_seqs, config.max_model_len)
        self.fitting = Fitting(heap, self._rows, admission, config.max_num_batched_tokens)
        self._by_slot: dict[int, Request] = {}
        self._order: Slots | None = None  # slots of running requests in order; None after a change
        self._refused: Request | None = None  # memory refused it
        self._short: Request | None = None  # as well; nobody has left since, though others' pages may be shared by now
        self._room: list[int] = []  # pages that could be granted then, by group
        self._bound: list[Binding] = []  # of rows that came to run since the last step, first to last
        self._slides = any(spec.window is not None for spec in heap.config.groups)

    def add(self, request: Request) -> None:
        """Queue a request: a new one, a preempted one, or a branch for which there is no room yet.

        Where the disk has pages of it, it is queued when they were read.
        """
        if request.came_after < 0:
            request.came_after = self._work
            self._work += request.prompt_len
        if self.tier_use is not None and self.tier_use.seek(request):
            request.status = Status.LOADING
        else:
            self._wait(request)

    def _reads_first(self, request: Request) -> bool:
        """Whether the first in line waits for the disk: once, for what left device and host while it was queued.

        Cost: as ``TierUse.seek``, once a request.
        """
        if self.tier_use is None or request.sought:
            return False
        request.sought = True
        if not self.tier_use.seek(request):
            return False
        self.waiting.remove(request)
        request.status = Status.LOADING
        return True

    def has_read(self, number: int, found: SequenceOf[bool], size: int, seconds: float) -> None:
        """A read from disk is over: see ``TierUse.has_read``. Who waited for it looks once more for what is there."""
        assert self.tier_use is not None, "nothing was to be read"
        for request in self.tier_use.has_read(number, found, size, seconds):
            self.add(request)

    @property
    def loading(self) -> int:
        """Requests whose pages are being read from disk. Cost: O(reads)."""
        return 0 if self.tier_use is None else self.tier_use.waiters

    def late(self) -> list[Request]:
        """Requests that wait, for memory or for the disk, and should have been started by now.

        Cost: O(requests that wait).
        """
        loading = [] if self.tier_use is None else self.tier_use.loading
        return self.deadlines.passed([*self.waiting, *loading])

    @property
    def only_loads(self) -> bool:
        """Whether all there is to do is to wait for a read."""
        return self.loading > 0 and not (self.waiting or self.running)

    def look(self) -> None:
        """See what is cached now of those next to go, and of some others: of all in turn. Cost: 8 matches at most."""
        if self._ordering.follows_cache:
            for request in self.waiting.some(LOOKED_AHEAD, LOOKED_BEHIND):
                self.waiting.rekey(request, self._at_hand(request))

    def _at_hand(self, request: Request) -> int:
        text = request.tokens.view()
        return self.heap.found(request.namespace, text[: request.reusable] if request.tells_prompt else text)

    def tick(self, now: int) -> None:
        """The time is ``now``, in seconds: an input of the run. What was to be kept for a time is kept no longer."""
        self.heap.tick(now)
        self.pins.tick(now)
        self.deadlines.tick(now)
        for request in self.tier_use.tick(now) if self.tier_use is not None else ():
            self._wait(request)

    def has_room(self) -> bool:
        """Whether a branch could start, and each that runs still get a page beside it."""
        return self.heap.grantable([len(self.running) + 1] * len(self.heap.groups))

    def fork(self, parent: Request, branch: Request, shared: int) -> bool:
        """Run a branch from its parent's first ``shared`` tokens; False where the parent or a slot is missing."""
        if parent.status is not Status.RUNNING:
            return False
        sequence = self.heap.fork(parent.held, branch.id)
        if sequence is None:
            return False
        self.heap.truncate(sequence, shared)
        self._sit(branch, sequence, shared)
        self._bound.append(binding_of(branch))
        return True

    def keep(self, request: Request) -> None:
        """Let others share what is computed of a running request."""
        if request.status is Status.RUNNING:
            self._seal(request)

    def choose(self, request: Request, token: int) -> None:
        """Go on with this token in place of the last known one, and one more."""
        self._rows.choose(request.held.slot, token)

    def abort(self, request: Request) -> None:
        """Abandon a request now; a session that it belongs to goes on with its turn before.

        What it holds is free when the steps that read it are done. Branches that were to be forked go on without it.
        """
        self._part(request)
        self._end(request)

    def stop(self, request: Request) -> None:
        """Finish a request now, for its text is complete; a session that it belongs to takes the turn.

        That turn has what is computed by now: tokens after the text's end, if any, are in nobody's way. Otherwise as
        ``abort``.
        """
        self.fitting.admission.learn(request.output_len)
        self._end(request)

    def _end(self, request: Request) -> None:
        self._finish(request)
        for branch in release(request):
            self.add(branch)

    def lose(self, request: Request) -> None:
        """End a hypothesis that stands; nothing of it is kept."""
        if request.status is Status.RUNNING:
            self._close(request)
        self._forget(request)
        request.status = Status.FINISHED

    def cancel(self, search: BeamSearch) -> None:
        """End a beam search now. Its group and hypotheses hold each other: the collector frees them within the step."""
        for sequence in self._stop(search):
            self.heap.retire(sequence)
        search.group.drop()

    def end(self, search: BeamSearch) -> None:
        """A beam search is over: its hypotheses leave their group, and are free at once. Its session keeps the best."""
        for sequence in self._stop(search):
            search.group.leave(sequence)
        search.group.drop()
        if search.session is not None:
            self._park_best(search, search.session)

    def _park_best(self, search: BeamSearch, session: Session) -> None:
        """Let a session keep what the prefix cache has of a search's best text, in place of the turn before.

        Without a slot for a moment the session goes on with what it had.
        """
        sequence = self.heap.open(search.names[0], TokenLog(search.best), search.namespace)
        if sequence is not None:
            self.heap.share_prefix(sequence, sequence.tokens.size, whole_pages=True)
            self.heap.join(session, sequence)
            self.heap.close(sequence)
            self.sessions.finished(sequence)

    def _stop(self, search: BeamSearch) -> list[Sequence]:
        """No hypothesis runs or waits any more; returns what those that ran hold."""
        held = [self._unseat(member) for member in search.members if member.status is Status.RUNNING]
        for member in search.members:
            self._forget(member)
            member.status = Status.FINISHED
        return held

    def _rejoin(self, request: Hypothesis, sequence: Sequence, cached: int) -> tuple[Sequence | None, int]:
        """Where one of its group has more of a hypothesis than the prefix cache, start from that one's pages.

        None where that one is not there yet: nothing is computed twice. Pages that slid out of a window may be gone
        there, so with windows each starts by itself.
        """
        nearest, shared = request.search.nearest(request)
        if nearest is None or shared <= cached or self._slides:
            return sequence, cached
        self.heap.close(sequence)
        if not nearest.stands:
            return None, 0
        branch = self.heap.fork(nearest.held, request.id)
        assert branch is not None, "a slot was given back a line above"
        branch.tokens = request.tokens
        self.heap.truncate(branch, shared)
        return branch, shared

    def _sit(self, request: Request, sequence: Sequence, computed: int) -> None:
        """The request runs from now on, with the KV of its first tokens at hand."""
        self.running.add(request)
        request.status, request.sequence = Status.RUNNING, sequence
        request.tokens = sequence.tokens = self._rows.enter(sequence.slot, request, computed)
        self._by_slot[sequence.slot] = request
        self._order = None
        if isinstance(request, Hypothesis):
            request.search.group.join(sequence)
        elif request.session is not None:
            self.heap.join(request.session, sequence)

    def _finish(self, request: Request) -> None:
        """End a request and drop its roots."""
        if request.status is Status.RUNNING:
            self._wind_up(request)
            self._close(request)
        self._forget(request)
        request.status, request.choices = Status.FINISHED, []

    def _wait(self, request: Request) -> None:
        request.status = Status.WAITING
        if self._ordering.follows_cache:
            request.at_hand = self._at_hand(request)
        self.waiting.add(request)

    def _forget(self, request: Request) -> None:
        """A request has ended: it waits for nothing, and nothing is kept for it."""
        self._unqueue(request)
        if self.tier_use is not None:
            self.tier_use.release(request)

    def _unqueue(self, request: Request) -> None:
        """Whatever a request waits for, it waits no longer."""
        if request.status is Status.WAITING:
            self.waiting.remove(request)
        elif request.status is Status.LOADING and self.tier_use is not None:
            self.tier_use.forget(request)

    def _seal(self, request: Request) -> None:
        computed = int(self._rows.computed[request.held.slot])
        self.heap.publish(request.held, computed)
        self.heap.slide(request.held, computed)
        self._refused = None  # its pages can be shared now, or were given back for equal ones or out of a window

    def _step_down(self, request: Request, *, keeps: bool = False) -> None:
        """It runs no more and waits again; published pages stay cached as long as memory allows.

        With ``keeps``, a lower tier may have to keep them.
        """
        sequence = request.held
        request.computed = int(self._rows.computed[sequence.slot])
        request.tokens = TokenLog(sequence.tokens.view())
        request.last_step = self.heap.last_step(sequence)
        self.sessions.part(sequence)
        self._wind_up(request)
        if keeps and self.tier_use is not None:
            self.tier_use.keep(request, sequence)
        self._close(request)
        if isinstance(request, Hypothesis) and request.stands:
            request.status = Status.PARKED
        else:
            self.add(request)

    def _wind_up(self, request: Request) -> None:
        """It is about to stop running: roll back what is planned but not computed, publish the rest."""
        sequence = request.held
        computed = int(self._rows.computed[sequence.slot])
        self.heap.truncate(sequence, computed)
        self.heap.publish(sequence, computed)

    def _close(self, request: Request) -> None:
        """Give the slot back, and all that is not published."""
        sequence = self._unseat(request)
        if isinstance(request, Hypothesis):
            request.search.group.leave(sequence)
        else:
            self.heap.close(sequence)
            self.sessions.finished(sequence)

    def _part(self, request: Request) -> None:
        """What a request computed so far is not to take the place of its session's turn before."""
        if request.sequence is not None:
            self.sessions.part(request.sequence)

    def _unseat(self, request: Request) -> Sequence:
        sequence = request.held
        self.running.remove(request)
        del self._by_slot[sequence.slot]
        request.sequence = None
        self._order = None
        self._refused = self._short = None
        return sequence

    def _refuse(self, request: Request) -> None:
        """Memory has no room for the first in line: it is not asked again before there is more of it."""
        self._refused = self._short = request
        self._room = [pages.grantable for pages in self.heap.groups]

    def _stays_refused(self, request: Request) -> bool:
        """Whether memory refused it, and nothing since made room. Cost: O(groups)."""
        return request is self._refused and not self._has_more_room()

    @property
    def at_the_door(self) -> int:
        """Requests that wait and may start now: none where the first in line waits for a slot or memory of who runs."""
        first = self.waiting.first()
        if len(self.running) >= self.config.max_num_seqs:
            return 0
        return 0 if first is not None and first is self._short and not self._has_more_room() else len(self.waiting)

    def _has_more_room(self) -> bool:
        return any(pages.grantable > room for pages, room in zip(self.heap.groups, self._room, strict=True))

    def _make_room(self, request: Request) -> bool:
        """Give up what keeps the first in line from starting: garbage, then what sessions keep, then pins.

        False if there is none of it.

        Garbage is looked for where memory is short, whether the collector runs or not, and where slots are, if nothing
        else goes on that would free one. Sessions are asked when no pages are in transit that will come free anyway,
        and pins where nothing else runs that would free some: so a pin lives through crowds, but keeps nobody out.
        """
        is_short = self._refused is request
        if (is_short or not (self.running or self.heap.held)) and self._find_garbage():
            return True
        if not is_short or self.heap.held:
            return False
        return self.sessions.shed() or (not self.running and self.pins.shed())

    def _find_garbage(self) -> bool:
        """Look at one candidate for garbage; False if there is none. Cost: O(what it reaches)."""
        return bool(self.heap.graph.candidates) and self.heap.collect_cycles(1) > 0

    def _why_wait(self, counts: I32) -> str:
        """What the first in line still waits for where these tokens of each row were planned; STEP if nobody waits."""
        if not self.waiting:
            return STEP
        if len(self.running) >= self.config.max_num_seqs:
            return SLOTS
        return TOKENS if counts.sum() >= self.config.max_num_batched_tokens else MEMORY

    def _running_slots(self) -> Slots:
        if self._order is None:
            self._order = np.array([request.held.slot for request in self.running], np.intp)
        return self._order
