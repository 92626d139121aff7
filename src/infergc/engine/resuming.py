"""An engine that outlives what it cannot trust: where an iteration fails half way, another goes on in its place.

An iteration is told whole or not at all. So what clients were told is all that has to be known to begin anew: heap and
scheduler are built again around the same model, with an empty cache, and every open request goes on from there as if it
had been preempted.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple, NoReturn

from infergc.config import EngineConfig
from infergc.engine.assembly import around, assemble
from infergc.engine.blame import Blame
from infergc.engine.census import TensorCensus
from infergc.engine.faults import WHERES, forget_frames, is_refusal, verdict
from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Answer, Ask, Command, Delta, Outputs, Ready, Submit, choice_names
from infergc.engine.ports import Executor, Sink
from infergc.engine.queue_times import QueueTimes
from infergc.engine.stats import EngineCounters
from infergc.engine.transcript import Transcript
from infergc.sched.counters import SchedulerCounters

_LOG = logging.getLogger(__name__)
_IN_VAIN = 3  # failures for nobody's sake that are borne, without anything achieved between them
_ATTEMPTS = 3  # to build another engine


class _Counted(NamedTuple):
    """What an engine counted until the end of an iteration."""

    engine: EngineCounters
    scheduler: SchedulerCounters
    queue: QueueTimes


def build_resuming_engine(config: EngineConfig, sinks: Iterable[Sink] = ()) -> "ResumingEngine":
    """Load the model's executor and put an engine around it, see ``assembly.around``."""
    return around(config, lambda executor: ResumingEngine(config, executor, sinks))


class ResumingEngine:
    """Drives one ``Engine`` after the other, for the same clients.

    Args:
        config: of the engine.
        executor: with its model; it is closed with the engine.
        sinks: hear of every step.

    Raises:
        ConfigError: a setting does not suit the model or the memory; the message names the flag.
    """

    def __init__(self, config: EngineConfig, executor: Executor, sinks: Iterable[Sink] = ()) -> None:
        self._config = config
        self._executor = executor
        self._sinks = tuple(sinks)
        self._transcript = Transcript()
        self._blame = Blame()
        self._unsaid = Outputs()  # of requests that ended between two engines, and questions
        self._vain = 0  # failures for nobody's sake since anything was achieved
        self._fatal: Exception | None = None  # why there is no going on
        self.engine = assemble(config, executor, self._sinks)
        self._counted = self._count()

    @property
    def ready(self) -> Ready:
        """What it serves and holds in memory."""
        return self.engine.ready

    @property
    def counters(self) -> EngineCounters:
        """Of all engines together."""
        return self.engine.counters

    def has_work(self) -> bool:
        """See ``Engine``."""
        return self.engine.has_work()

    def awaits_news(self) -> bool:
        """See ``Engine``."""
        return self.engine.awaits_news()

    def census(self) -> TensorCensus:
        """See ``Engine``."""
        return self.engine.census()

    def close(self) -> None:
        """See ``Engine``."""
        self.engine.close()

    def idle(self) -> bool:
        """See ``Engine``."""
        try:
            return self.engine.idle()
        except Exception as error:  # noqa: BLE001 - whatever it was, the heap is half changed
            self._begin_anew([], error)
            return True

    def step(self, commands: Iterable[Command] = ()) -> Outputs:
        """Run one iteration, see ``Engine``: by the next engine where this one fails.

        Raises:
            Exception: what it failed of again and again, for nobody's sake: there is no going on, now or later.
        """
        if self._fatal is not None:
            raise self._fatal
        taken = list(commands)
        while True:
            try:
                return self._step(taken)
            except Exception as error:  # noqa: BLE001 - as above
                taken = self._begin_anew(taken, error)

    def _step(self, commands: list[Command]) -> Outputs:
        """An iteration, told whole: what it brought is known before anything else may fail."""
        outputs, counted = self.engine.step(commands), self._count()
        unsaid, nothing = self._unsaid, Outputs()
        deltas, answers = [*unsaid.deltas, *outputs.deltas], [*unsaid.answers, *outputs.answers]
        if self._blame:
            got_on = [*outputs.ids, *(delta.request_id for delta in outputs.deltas)]
            self._blame.forget([*got_on, *(answer.number for answer in answers)])
        self._transcript.note(commands, outputs)
        outputs.deltas, outputs.answers, self._unsaid, self._counted = deltas, answers, nothing, counted
        if deltas or outputs.ids:
            self._vain = 0
        return outputs

    def _count(self) -> _Counted:
        engine = self.engine
        return _Counted(engine.counters.copy(), replace(engine.scheduler.counters), engine.queue.copy())

    # ---- another engine

    def _begin_anew(self, commands: list[Command], error: Exception) -> list[Command]:
        """Put another engine in place of one that failed; returns the commands that it is to take.

        Raises:
            Exception: that failed again and again, for want of memory. Or else the engine did, for nobody's sake.
        """
        old, doing = self.engine, self.engine.doing
        _LOG.error("the engine begins anew, its cache is lost: %s failed", doing, exc_info=error)
        why, refused = verdict(error, WHERES[doing]), is_refusal(error)
        suspects = self._suspects(commands)
        self._vain += not suspects
        if self._vain > _IN_VAIN:
            self._give_up(error)
        forget_frames(error)
        left = self._end_proven(suspects, commands, why)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self.engine = self._built(old)
            except Exception as another:  # noqa: BLE001 - logged, and raised in the end
                _LOG.exception("it could not, attempt %d", attempt)
                if attempt == _ATTEMPTS:
                    self._give_up(another)
                forget_frames(another)
            else:
                break
        self._counted.engine.resumptions += 1
        self._counted.engine.refused[doing] += refused
        self.engine.count_on(*self._counted)
        self._counted = self._count()
        for sink in self._sinks:
            sink.resumed()
        return left

    def _suspects(self, commands: list[Command]) -> Collection[str | int]:
        """For whose sake it may have failed: ids of requests, or the number of a question."""
        engine = self.engine
        if engine.doing != "command":
            return engine.suspects()
        match engine.taking:
            case Submit() as submit if submit in commands:
                return choice_names(submit.request_id, submit.params.n)[:1]
            case Abort() as abort:
                return self._transcript.names(abort.request_id)
            case Ask() as ask:
                return (ask.number,)
            case _:
                return ()

    def _end_proven(self, suspects: Collection[str | int], commands: list[Command], why: str) -> list[Command]:
        """Tell those that it must have failed for; returns the commands without theirs."""
        proven = self._blame.add(suspects)
        if not proven:
            return commands
        left, names = list[Command](), [name for each in proven for name in self._transcript.family(str(each))]
        for command in commands:
            match command:
                case Submit() if (choices := choice_names(command.request_id, command.params.n))[0] in proven:
                    names += choices
                case Ask() if command.number in proven:
                    self._unsaid.answers.append(Answer(command.number, error=why))
                case _:
                    left.append(command)
        names = list(dict.fromkeys(names))
        self._vain += not names and len(left) == len(commands)
        self._unsaid.deltas += [Delta(name, [], "error", error=why) for name in names]
        self._transcript.end(names)
        self._counted.engine.finished["error"] += len(names)
        for name in names:
            self._counted.queue.ended(name)
        return left

    def _built(self, old: Engine) -> Engine:
        """Another engine around the same model, which goes on where clients were told that the old one is."""
        suspects, transcript = old.suspects(), self._transcript
        self._executor.release()
        old.forget()
        engine = assemble(self._config, self._executor, self._sinks)
        engine.resume(old, transcript.requests(), transcript.second, suspects)
        return engine

    def _give_up(self, error: Exception) -> NoReturn:
        self._fatal = error
        raise error


AnyEngine = Engine | ResumingEngine
