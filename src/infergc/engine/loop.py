"""The engine: one pipelined loop over scheduler, heap and executor, blind to tensors, text and HTTP."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from infergc.engine.census import TensorCensus
from infergc.engine.corruption import corruption
from infergc.engine.deltas import as_logprobs, delta_of, text_deltas
from infergc.engine.faults import NeverStarted, forget_frames, is_refusal, log_failure, moves_of, verdict
from infergc.engine.inquiries import Inquiries
from infergc.engine.intake import Intake, cached_of, names_of
from infergc.engine.messages import (
    Abort,
    Ask,
    Command,
    Delta,
    DiskNews,
    Fetched,
    Lost,
    Outputs,
    Ready,
    Saved,
    Shutdown,
    Submit,
    Tick,
    choice_names,
)
from infergc.engine.pacing import Pacer
from infergc.engine.ports import Collection, Executor, Flight, Sink
from infergc.engine.queue_times import QueueTimes
from infergc.engine.stats import EngineCounters, snapshot
from infergc.engine.transcript import Choices
from infergc.engine.tuning import Tuning
from infergc.heap.errors import HeapCorruption, StorageCorruption, StorageLost
from infergc.heap.tier_dump import Steps
from infergc.sched.counters import SchedulerCounters
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sched.request import Request
from infergc.sched.scheduler import Scheduler
from infergc.sched.search import BeamSearch
from infergc.sched.trials import Unit, unit_of

_DISK_SECONDS = 0.002  # that commands may have to wait while the engine has nothing to do but to wait for the disk


class Engine:
    """Takes commands, keeps up to ``depth`` steps in flight, and tells what came of them.

    The order of planning and committing depends on commands and outcomes only, never on timing (law 10).

    Attributes:
        doing: what it does or did last, of ``engine.faults.WHERES``; "step" while it waits for the worker's outcome.
        taking: the command that it took last.
        hear: gives the news of the disk tier; a replay has them already.
        tells_stats: whether outputs carry the counters; a driver that reads none of them may do without.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        ready: Ready,
        namespace: str,
        depth: int,
        pacer: Pacer,
        sinks: Iterable[Sink] = (),
    ) -> None:
        self.ready = ready
        self.tells_stats = True
        self.doing = "command"
        self.taking: Command | None = None
        self.scheduler = scheduler
        self.heap = scheduler.heap
        self.counters = EngineCounters()
        self.pacer = pacer
        self.queue = QueueTimes()
        self._executor = executor
        self._inquiries = self._answering()
        self._intake = Intake(ready, namespace, scheduler.heap, scheduler.sessions, scheduler.deadlines)
        self._depth = depth
        self._suspects: Mapping[str, int] = {}  # of an engine before, until the first commands were taken
        self._apart: dict[Unit, int] = {}  # those of them that have come
        self._told = (0, 0)  # requests that run, choices that never did, as they were last told
        self._sinks = tuple(sinks)
        self._flights: deque[tuple[StepPlan, Flight]] = deque()
        self.hear: Callable[[], Sequence[Command]] = executor.news

    def _answering(self) -> Inquiries:
        figures = self._executor.disk_figures
        return Inquiries(
            self.scheduler, self.counters, self.pacer, self.queue, self._damage, figures, self._steps
        )  # fmt: skip

    def has_work(self) -> bool:
        """Whether ``step`` would do anything without a new command."""
        return not self.scheduler.idle

    def step(self, commands: Iterable[Command] = ()) -> Outputs:
        """Run one iteration: take commands, launch a step if the pipeline has room, commit the oldest if it is full.

        At depth 2 the first call only launches; a step's tokens come with the call that launches the next.
        """
        self.doing, self.taking = "command", None
        if self._waits_for_disk():
            self._executor.wait(_DISK_SECONDS)
        outputs, commands = Outputs(), [*self.hear(), *commands]
        self.queue.elapse(len(self.scheduler.waiting), self.scheduler.waits_for, self.scheduler.loading)
        for sink in self._sinks:
            sink.taken(commands)
        for command in commands:
            self.taking = command
            self._take(command, outputs)
        if self._apart:
            self.scheduler.trials.set_apart(self._apart)
            self._suspects, self._apart = {}, {}
        self.doing = "plan"
        launched = self._has_room() and self._launch()
        if self._flights and (len(self._flights) == self._depth or not launched):
            self._commit(outputs)
        self.doing = "upkeep"
        self._collect(idle=False)
        self._hand_over_jobs()
        if self.tells_stats and self._has_changed(outputs):
            outputs.stats = snapshot(self.scheduler, self.counters, self.pacer, self.queue)
            outputs.waits = self.queue.take_latest()
        for sink in self._sinks:
            sink.outputs(outputs)
        return outputs

    def _has_changed(self, outputs: Outputs) -> bool:
        """Whether the counters are worth telling: a token came, the queue moved, or nothing more will come."""
        queue = (len(self.scheduler.running), self.queue.unstarted)
        moved, self._told = queue != self._told, queue
        return bool(moved or outputs.deltas or outputs.ids) or not self.has_work()

    def census(self) -> TensorCensus:
        """Look at the live tensors beside the model's; the first look learns which those are."""
        return self._executor.census(self.counters.steps)

    def close(self) -> None:
        """Drop every request and stop the executor, which is stopped whatever a last step comes to."""
        try:
            while self._flights:
                self._commit(Outputs())
            for name in self._intake:
                self._abort(name, Outputs())
        finally:
            self._executor.close()

    def forget(self) -> None:
        """Ask nothing more of the steps in flight: who failed has an error whose frames hold what the worker held."""
        self._flights.clear()

    def idle(self) -> bool:
        """Use the time in which there is nothing to do: collect for a moment. False when nothing is left to collect."""
        self.doing = "upkeep"
        return self._collect(idle=True)

    # ---- going on from another engine

    def suspects(self) -> dict[str, int]:
        """Requests that what it does, or did last, may fail for: ids, and how many tokens were to be computed."""
        if self.doing == "plan":
            return self.scheduler.planned_for()
        return self.scheduler.booked_for if self.doing == "commit" else {}

    def resume(self, old: "Engine", requests: Iterable[Choices], second: int, suspects: Mapping[str, int]) -> None:
        """Go on with the open requests of an engine that failed, as if they had been preempted. Called once, first.

        Args:
            old: the one that failed.
            requests: what was told of each, in order of arrival.
            second: the time, in seconds since the engine began.
            suspects: ids of those, or of requests that come with the next commands, that run apart until so many tokens
                of them are computed, and one more than was told.
        """
        Tuning(self.scheduler, self.pacer).change(Tuning(old.scheduler, old.pacer).values())
        self.scheduler.tick(second)
        self._suspects = suspects
        for request in [one for choices in requests for one in self._intake.reopen(choices)]:
            if request.cached is None:
                request.cached = old.started(request.id)
            self._queue(request)

    def started(self, name: str) -> int | None:
        """See ``Intake``."""
        return self._intake.started(name)

    def count_on(self, counters: EngineCounters, of_scheduler: SchedulerCounters, queue: QueueTimes) -> None:
        """Go on counting where another engine was. What heap and collector count begins anew."""
        self.counters, self.scheduler.counters, self.queue = counters, of_scheduler, queue
        self._inquiries = self._answering()

    # ---- commands

    def _take(self, command: Command, outputs: Outputs) -> None:
        match command:
            case Submit():
                self._submit(command, outputs)
            case Abort():
                self._abort(command.request_id, outputs, stopped=command.stopped)
            case Ask():
                outputs.answers.append(self._inquiries.answer(command))
            case Tick():
                self._tick(command.seconds, outputs)
            case Saved() | Fetched() | Lost():
                self._take_news(command)
            case Shutdown():
                for name in self._intake:
                    self._abort(name, outputs)

    def _submit(self, submit: Submit, outputs: Outputs) -> None:
        problem = self._intake.refusal(submit)
        names = choice_names(submit.request_id, submit.params.n)
        self.queue.taken += len(names)
        if problem:
            outputs.deltas += [Delta(name, [], "error", error=problem) for name in names]
        else:
            self.queue.came(names)
            self._queue(self._intake.open(submit))

    def _queue(self, request: Request) -> None:
        self.scheduler.add(request)
        if request.id in self._suspects:
            self._apart[unit_of(request)] = max(self._suspects[request.id], request.tokens.size) + 1

    def _abort(self, request_id: str, outputs: Outputs, *, stopped: bool = False) -> None:
        for name in self._intake.names(request_id):
            unit = self._intake.unit(name)
            if unit is not None:
                self._tell_end(unit, self._stop(unit, stopped=stopped), outputs)

    def _tick(self, seconds: int, outputs: Outputs) -> None:
        """The time is ``seconds``: who waited too long to start ends. Choices that this sets free may be as late."""
        self.scheduler.tick(seconds)
        while late := self.scheduler.late():
            for request in late:
                unit = unit_of(request)
                self._stop(unit, stopped=False)
                why = "it waited longer than its queue_timeout or the server's --queue-timeout without being started"
                self._tell_end(unit, "timeout", outputs, why)

    def _stop(self, unit: Unit, *, stopped: bool) -> str:
        """End what no token ended; returns the reason. A beam search has no stop strings: it is abandoned."""
        if isinstance(unit, BeamSearch):
            self.scheduler.cancel(unit)
        elif stopped:
            self.scheduler.stop(unit)
            return "stop"
        else:
            self.scheduler.abort(unit)
        return "abort"

    def _tell_end(self, unit: Unit, reason: str, outputs: Outputs, error: str = "") -> None:
        """A request or a search ended without a last token."""
        for name in names_of(unit):
            self._end(name, reason)
            outputs.deltas.append(Delta(name, [], reason, cached_tokens=cached_of(unit), error=error))

    def _steps(self) -> Steps:
        """Those in flight, with their moves."""
        return [(plan.step, plan.moves) for plan, _ in self._flights]

    def _damage(self) -> list[str]:
        """What is wrong with storage, where it is guarded."""
        findings = self._executor.inspect()
        self.counters.corruptions += len(findings)
        return [finding.what for finding in findings]

    # ---- the disk tier

    def awaits_news(self) -> bool:
        """Whether the disk tier is at work: there will be news though nobody asks for anything."""
        return self.heap.disk is not None and self.heap.disk.is_busy

    def _take_news(self, news: DiskNews) -> None:
        disk = self.heap.disk
        if disk is None:
            return
        match news:
            case Saved():
                disk.has_written(news.keys, well=True)
                disk.has_written(news.failed, well=False)
            case Fetched():
                self.scheduler.has_read(news.number, news.found, news.size, news.seconds)
            case Lost():
                disk.lost(news.keys)

    def _waits_for_disk(self) -> bool:
        """Whether nothing can go on but what the disk tier is reading."""
        return self.scheduler.only_loads and not self._flights

    def _hand_over_jobs(self) -> None:
        if self.heap.disk is not None:
            for job in self.heap.disk.jobs(self.heap.completed):
                self._executor.move(job)

    # ---- steps

    def _collect(self, *, idle: bool) -> bool:
        """The safepoint between two plans; whether there was anything to do."""
        step = self.heap.planning
        pause = self.pacer.run(idle=idle)
        if pause is None:
            return False
        for sink in self._sinks:
            sink.collected(Collection(step, pause.budget, idle))
        return pause.work > 0

    def _has_room(self) -> bool:
        """Whether the pipeline takes another step: none that would go on from one which never started."""
        is_sound = not (self._flights and isinstance(self._flights[-1][1], NeverStarted))
        return is_sound and len(self._flights) < self._depth

    def _launch(self) -> bool:
        plan = self._plan()
        if self.scheduler.started:
            self.queue.started(self.scheduler.started)
        if plan is None:
            return False
        self._flights.append((plan, self._start(plan)))
        self.counters.steps += 1
        for sink in self._sinks:
            sink.planned(plan)
        return True

    def _plan(self) -> StepPlan | None:
        """Plan a step. Where memory for it is refused against law 9, pages have leaked: reclaim them and try again."""
        try:
            return self.scheduler.plan()
        except HeapCorruption:
            if not self.pacer.verify():
                raise
            return self.scheduler.plan()

    def _start(self, plan: StepPlan) -> Flight:
        try:
            return self._executor.launch(plan)
        except Exception as error:  # noqa: BLE001 - a step that cannot start has failed like any other
            return NeverStarted(error, self._executor.launch(moves_of(plan)) if plan.moves else None)

    def _commit(self, outputs: Outputs) -> None:
        plan, flight = self._flights.popleft()
        self.doing = "step"
        try:
            outcome = flight.result()
        except StorageLost:
            raise  # pages of whoever it may be are not what they should be: nothing of the heap can be trusted
        except Exception as error:  # noqa: BLE001 - whatever the worker raised concerns this step's requests alone
            self._fail(plan, error, outputs)
            forget_frames(error)
        else:
            self._book(plan, outcome, outputs)

    def _book(self, plan: StepPlan, outcome: StepOutcome, outputs: Outputs) -> None:
        for sink in self._sinks:
            sink.landed(outcome)
        self.doing = "commit"
        progress = self.scheduler.commit(plan, outcome)
        outputs.ids, outputs.tokens = progress.ids, progress.tokens
        for request, reports in progress.prompts:
            outputs.deltas.append(Delta(request.id, [], prompt_logprobs=as_logprobs(reports)))
        news = [delta_of(gain) for gain in progress.gains]
        for search in progress.searches:
            news += text_deltas(search)
        for delta in news:
            if delta.finish:
                self._end(delta.request_id, delta.finish)
        outputs.deltas += news
        for request, why in progress.failures:
            self._tell_end(request, "error", outputs, why)

    def _fail(self, plan: StepPlan, error: Exception, outputs: Outputs) -> None:
        """Requests whose storage is damaged end. Others run again apart, and only who fails alone ends."""
        self.counters.failed_steps += 1
        self.counters.refused["step"] += is_refusal(error)
        if isinstance(error, StorageCorruption):
            self.counters.corruptions += len(error.findings)
            what = corruption(self.heap, plan.step, error)
            self._tell_failed(self.scheduler.fail(plan), what, outputs)
            return
        before = self.scheduler.trials.retried
        ended = self.scheduler.set_back(plan)
        log_failure(plan, error, self.scheduler.trials.retried - before, len(ended))
        self._tell_failed(ended, verdict(error, "a step"), outputs)

    def _tell_failed(self, requests: Iterable[Request], error: str, outputs: Outputs) -> None:
        for request in requests:
            self._tell_end(unit_of(request), "error", outputs, error)

    def _end(self, name: str, reason: str) -> None:
        self._intake.close(name)
        self.queue.ended(name)
        self.counters.finished[reason] += 1
