"""The engine: one pipelined loop over scheduler, heap and executor, blind to tensors, text and HTTP."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future

import numpy as np

from infergc.engine.census import TensorCensus
from infergc.engine.corruption import corruption
from infergc.engine.inquiries import Inquiries
from infergc.engine.messages import Abort, Ask, Command, Delta, Logprobs, Outputs, Ready, Shutdown, Submit
from infergc.engine.pacing import Pacer
from infergc.engine.ports import Executor, Flight, Sink
from infergc.engine.stats import EngineCounters, snapshot
from infergc.heap.errors import StorageCorruption
from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from infergc.sched.plan import StepOutcome, StepPlan, TokenLogprobs
from infergc.sched.progress import Gain
from infergc.sched.request import Request
from infergc.sched.scheduler import Scheduler


class Engine:
    """Takes commands, keeps up to ``depth`` steps in flight, and tells what came of them.

    The order of planning and committing depends on commands and outcomes only, never on timing (law 10).
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
        self.scheduler = scheduler
        self.heap = scheduler.heap
        self.counters = EngineCounters()
        self.pacer = pacer
        self._inquiries = Inquiries(scheduler, pacer, self._damage)
        self._executor = executor
        self._namespace = namespace
        self._depth = depth
        self._sinks = tuple(sinks)
        self._requests: dict[str, Request] = {}
        self._flights: deque[tuple[StepPlan, Flight]] = deque()
        self._arrivals = 0

    def has_work(self) -> bool:
        """Whether ``step`` would do anything without a new command."""
        return not self.scheduler.idle

    def step(self, commands: Iterable[Command] = ()) -> Outputs:
        """Run one iteration: take commands, launch a step if the pipeline has room, commit the oldest if it is full.

        At depth 2 the first call only launches; a step's tokens come with the call that plans the step after next.
        """
        outputs = Outputs()
        for command in commands:
            self._take(command, outputs)
        launched = len(self._flights) < self._depth and self._launch()
        if self._flights and (len(self._flights) == self._depth or not launched):
            self._commit(outputs)
        self._collect()
        if outputs.deltas or outputs.ids or not self.has_work():
            outputs.stats = snapshot(self.scheduler, self.counters, self.pacer)
        for sink in self._sinks:
            sink.outputs(outputs)
        return outputs

    def census(self) -> TensorCensus:
        """Look at the live tensors beside the model's; the first look learns which those are."""
        return self._executor.census(self.counters.steps)

    def close(self) -> None:
        """Drop every request and stop the executor."""
        while self._flights:
            self._commit(Outputs())
        for request in list(self._requests.values()):
            self._end(request)
            self.scheduler.abort(request)
        self._executor.close()

    def idle(self) -> bool:
        """Use the time in which there is nothing to do: collect for a moment. False when nothing is left to collect."""
        return self.pacer.when_idle()

    # ---- commands

    def _take(self, command: Command, outputs: Outputs) -> None:
        match command:
            case Submit():
                self._submit(command, outputs)
            case Abort():
                self._abort(command.request_id, outputs)
            case Ask():
                outputs.answers.append(self._inquiries.answer(command))
            case Shutdown():
                for request_id in list(self._requests):
                    self._abort(request_id, outputs)

    def _submit(self, submit: Submit, outputs: Outputs) -> None:
        problem = self._refusal(submit)
        if problem:
            outputs.deltas.append(Delta(submit.request_id, [], "error", error=problem))
            return
        params, prompt = submit.params, np.array(submit.prompt, np.int32)
        longest = self.ready.max_model_len
        limit = longest if params.max_tokens is None else min(longest, len(prompt) + params.max_tokens)
        request = Request(
            submit.request_id,
            self._arrivals,
            TokenLog(prompt),
            len(prompt),
            params,
            limit,
            Namespace(self._namespace, submit.salt),
            submit.priority,
            submit.session,
            stop_ids=frozenset(params.stop_token_ids),
        )
        self._arrivals += 1
        self._requests[request.id] = request
        self.scheduler.add(request)

    def _refusal(self, submit: Submit) -> str:
        """Why a request cannot run, "" if it can. Clients check first; this guards the heap."""
        if submit.request_id in self._requests:
            return f"request_id: {submit.request_id!r} is running already"
        if not 0 < len(submit.prompt) < self.ready.max_model_len:
            return f"prompt: {len(submit.prompt)} tokens; 1 to {self.ready.max_model_len - 1} are allowed"
        ids = np.array(submit.prompt)  # of Python's integers if one takes more than 64 bits: compared all the same
        if not 0 <= ids.min() <= ids.max() < self.ready.vocab_size:
            return f"prompt: token ids must be 0 to {self.ready.vocab_size - 1}"
        return ""

    def _abort(self, request_id: str, outputs: Outputs) -> None:
        request = self._requests.get(request_id)
        if request is None:
            return
        self._end(request)
        self.scheduler.abort(request)
        self.counters.finished["abort"] += 1
        outputs.deltas.append(Delta(request_id, [], "abort", cached_tokens=request.cached or 0))

    def _damage(self) -> list[str]:
        """What is wrong with storage, where it is guarded."""
        findings = self._executor.inspect()
        self.counters.corruptions += len(findings)
        return [finding.what for finding in findings]

    # ---- steps

    def _collect(self) -> None:
        """The safepoint between two plans. How much may be collected is an input, as it comes from a clock."""
        budget = self.pacer.between_steps()
        if budget:
            for sink in self._sinks:
                sink.collected(budget)

    def _launch(self) -> bool:
        plan = self.scheduler.plan()
        if plan is None:
            return False
        self._flights.append((plan, self._start(plan)))
        self.counters.steps += 1
        for sink in self._sinks:
            sink.planned(plan)
        return True

    def _start(self, plan: StepPlan) -> Flight:
        try:
            return self._executor.launch(plan)
        except Exception as error:  # noqa: BLE001 - a step that cannot start has failed like any other
            failed: Future[StepOutcome] = Future()
            failed.set_exception(error)
            return failed

    def _commit(self, outputs: Outputs) -> None:
        plan, flight = self._flights.popleft()
        try:
            outcome = flight.result()
        except StorageCorruption as error:
            self.counters.corruptions += len(error.findings)
            self._fail(plan, corruption(self.heap, plan.step, error), outputs)
            return
        except Exception as error:  # noqa: BLE001 - whatever the worker raised concerns this step's requests alone
            self._fail(plan, f"{type(error).__name__}: {error}", outputs)
            return
        for sink in self._sinks:
            sink.landed(outcome)
        progress = self.scheduler.commit(plan, outcome)
        outputs.ids, outputs.tokens = progress.ids, progress.tokens
        for gain in progress.gains:
            outputs.deltas.append(self._delta(gain))

    def _fail(self, plan: StepPlan, error: str, outputs: Outputs) -> None:
        self.counters.failed_steps += 1
        for request in self.scheduler.fail(plan):
            self._end(request)
            self.counters.finished["error"] += 1
            outputs.deltas.append(Delta(request.id, [], "error", cached_tokens=request.cached or 0, error=error))

    def _delta(self, gain: Gain) -> Delta:
        request, finish = gain.request, gain.finish
        logprobs = [_logprobs(gain.logprobs)] if gain.logprobs is not None else []
        delta = Delta(request.id, [gain.token], cached_tokens=request.cached or 0, logprobs=logprobs)
        if finish is not None:
            delta.finish, delta.stop_id = finish.reason, finish.stop_id
            self._end(request)
            self.counters.finished[finish.reason] += 1
        return delta

    def _end(self, request: Request) -> None:
        del self._requests[request.id]


def _logprobs(report: TokenLogprobs) -> Logprobs:
    return Logprobs(report.sampled, report.rank, report.top_ids, report.top)
