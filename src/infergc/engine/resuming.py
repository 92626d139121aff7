"""An engine that outlives what it cannot trust: where an iteration fails half way, another goes on in its place.

An iteration is told whole or not at all. So what clients were told is all that has to be known to begin anew: heap and
scheduler are built again around the same model, with an empty cache, and every open request goes on from there as if it
had been preempted.
"""

import logging
from collections.abc import Iterable

from infergc.config import EngineConfig
from infergc.engine.assembly import around, assemble
from infergc.engine.census import TensorCensus
from infergc.engine.faults import forget_frames, is_refusal, verdict
from infergc.engine.loop import Engine
from infergc.engine.messages import Answer, Ask, Command, Delta, Outputs, Ready, Submit, choice_names
from infergc.engine.ports import Executor, Sink
from infergc.engine.stats import EngineCounters
from infergc.engine.transcript import Transcript

_LOG = logging.getLogger(__name__)
_MOST = 3  # failures for nobody's sake, and without anything achieved between them, that are borne; and attempts
_WHAT = {
    "command": "taking it",
    "plan": "planning",
    "step": "moving pages",
    "commit": "booking a step",
    "upkeep": "seeing to the heap",
}


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
        self._unsaid = Outputs()  # of requests that ended between two engines
        self._failed: Command | None = None  # taking it failed, and is tried once more
        self._vain = 0  # failures since anything was achieved
        self.engine = assemble(config, executor, self._sinks)

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
            Exception: what it failed of again and again, for nobody's sake: there is no going on.
        """
        taken = list(commands)
        try:
            return self._step(taken)
        except Exception as error:  # noqa: BLE001 - as above
            return self._go_on(taken, error)

    def _step(self, commands: list[Command]) -> Outputs:
        outputs = self.engine.step(commands)
        unsaid, nothing = self._unsaid, Outputs()
        deltas, answers = [*unsaid.deltas, *outputs.deltas], [*unsaid.answers, *outputs.answers]
        self._transcript.note(commands, outputs)
        outputs.deltas, outputs.answers, self._unsaid = deltas, answers, nothing
        if deltas or outputs.ids:
            self._vain = 0
        return outputs

    def _go_on(self, commands: list[Command], error: Exception) -> Outputs:
        """Let other engines try, one after the other."""
        while True:
            self._begin_anew(commands, error)
            try:
                return self._step(commands)
            except Exception as another:  # noqa: BLE001 - it is one more that failed
                error = another

    def _begin_anew(self, commands: list[Command], error: Exception) -> None:
        """Put another engine in place of one that failed. That may fail as well, for want of memory.

        Raises:
            Exception: again and again. Or else the engine does, for nobody's sake.
        """
        self._vain = 0 if self._blames(commands, error) else self._vain + 1
        _LOG.error("the engine begins anew, its cache is lost: %s failed", self.engine.doing, exc_info=error)
        if self._vain > _MOST:
            raise error
        why, refused = verdict(error, _WHAT[self.engine.doing]), is_refusal(error)
        forget_frames(error)
        for attempt in range(1, _MOST + 1):
            try:
                self._resume(why, refused=refused)
            except Exception:
                _LOG.exception("it could not, attempt %d", attempt)
                if attempt == _MOST:
                    raise
            else:
                return

    def _blames(self, commands: list[Command], error: Exception) -> bool:
        """Whether it failed for somebody's sake. Who cannot be taken twice is told so, and not tried again."""
        engine, taking = self.engine, self.engine.taking
        if engine.doing != "command" or not isinstance(taking, Submit | Ask):
            return bool(engine.suspects)
        if taking is not self._failed:
            self._failed = taking
            return True
        why = verdict(error, _WHAT["command"])
        if isinstance(taking, Ask):
            self._unsaid.answers.append(Answer(taking.number, error=why))
        else:
            names = choice_names(taking.request_id, taking.params.n)
            self._unsaid.deltas += [Delta(name, [], "error", error=why) for name in names]
            self.engine.counters.finished["error"] += len(names)
        commands[:] = [command for command in commands if command is not taking]
        return True

    def _resume(self, why: str, *, refused: bool) -> None:
        """Build another engine around the same model, to go on where clients were told that this one is."""
        old = self.engine
        self._executor.release()
        engine = assemble(self._config, self._executor, self._sinks)
        ended = engine.resume(old, why, self._transcript.requests())
        engine.counters.resumptions += 1
        engine.counters.refused[old.doing] += refused
        for sink in self._sinks:
            sink.resumed()
        self._transcript.end(delta.request_id for delta in ended)
        self._unsaid.deltas += ended
        self.engine = engine


AnyEngine = Engine | ResumingEngine
