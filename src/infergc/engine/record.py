"""A recorder: the engine's whole event stream as plain data, and the inputs that drive a replay."""

from collections.abc import Sequence

import msgspec

from infergc.engine.loop import Engine
from infergc.engine.messages import Command, Outputs
from infergc.engine.pacing import RecordedRate
from infergc.engine.ports import Collection, Sink
from infergc.sched.plan import StepOutcome, StepPlan


class Recorder(Sink):
    """A sink that writes one line of JSON an event; equal streams mean equal behaviour.

    Measured times are left out of the events: they are inputs, not behaviour.

    Attributes:
        events: see above.
        outcomes: what the executor gave, in order: a replay through another executor returns them.
        inputs: the commands of every iteration and every call of the collector, in order. See ``replay``.
        is_whole: whether one engine lived through all of it.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.outcomes: list[StepOutcome] = []
        self.inputs: list[Sequence[Command] | Collection] = []
        self.is_whole = True

    def taken(self, commands: Sequence[Command]) -> None:
        """Record what an iteration begins with."""
        self.inputs.append(commands)

    def planned(self, plan: StepPlan) -> None:
        """Record a plan: rows, tokens, page tables, moves and bindings."""
        self._event(
            kind="plan",
            step=plan.step,
            slots=plan.slots.tolist(),
            starts=plan.starts.tolist(),
            counts=plan.counts.tolist(),
            tokens=plan.token_ids.tolist(),
            sample=plan.sample.tolist(),
            tables=[[table.first.tolist(), table.pages.tolist(), table.skipped.tolist()] for table in plan.tables],
            moves=[[move.kind, move.group, move.src, move.dst, move.tokens, move.pages] for move in plan.moves],
            bindings=[[b.slot, b.prompt.tolist(), b.output.tolist(), b.params] for b in plan.bindings],
        )

    def landed(self, outcome: StepOutcome) -> None:
        """Record an outcome."""
        self.outcomes.append(outcome)
        self._event(kind="outcome", step=outcome.step, tokens=outcome.tokens.tolist())

    def collected(self, collection: Collection) -> None:
        """Record a call of the collector."""
        self.inputs.append(collection)

    def outputs(self, outputs: Outputs) -> None:
        """Record what clients are told."""
        answers = [(answer.number, _timeless(answer.value), answer.error) for answer in outputs.answers]
        self._event(kind="outputs", deltas=outputs.news(), stats=_timeless(outputs.stats or {}), answers=answers)

    def resumed(self) -> None:
        """Note that the iteration that begins now was begun before."""
        self.is_whole = False

    def _event(self, **fields: object) -> None:
        self.events.append(msgspec.json.encode(fields).decode())


def replay(record: Recorder, engine: Engine) -> None:
    """Let a new engine, set up as the recorded one was, live through the same.

    Its executor gives the recorded outcomes, as ``sim.executor.SimExecutor(facts, record.outcomes)`` does. Everything
    else that a run depends on (law 10) is in ``record.inputs``.

    Raises:
        ValueError: the recorded engine failed half way and began anew: what it did then depends on what failed.
    """
    if not record.is_whole:
        raise ValueError("record: its engine began anew half way, which a replay cannot repeat")
    engine.hear = list
    engine.pacer.rate = RecordedRate(one.budget for one in record.inputs if isinstance(one, Collection))
    for given in record.inputs:
        if not isinstance(given, Collection):
            engine.step(given)
        elif given.idle:
            engine.idle()


def _timeless(value: object) -> object:
    """Figures without those parts that are times, or have some."""
    if not isinstance(value, dict):
        return value
    return {
        part: figures
        for part, figures in value.items()
        if part not in {"collector", "collection_seconds", "queue_seconds", "disk_store"}
    }
