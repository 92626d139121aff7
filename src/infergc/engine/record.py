"""A recorder: the engine's whole event stream as plain data, and the outcomes that drive a replay."""

import msgspec

from infergc.engine.messages import Outputs
from infergc.sched.plan import StepOutcome, StepPlan


class Recorder:
    """A sink that writes one line of JSON an event; equal streams mean equal behaviour.

    ``outcomes`` are what the executor gave, in order: a replay through another executor returns them.
    Measured times are left out of the events: they are inputs, not behaviour.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.outcomes: list[StepOutcome] = []
        self.budgets: list[int] = []

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
            moves=[[move.kind, move.group, move.src, move.dst, move.tokens] for move in plan.moves],
            bindings=[[b.slot, b.prompt.tolist(), b.output.tolist(), b.params] for b in plan.bindings],
        )

    def landed(self, outcome: StepOutcome) -> None:
        """Record an outcome."""
        self.outcomes.append(outcome)
        self._event(kind="outcome", step=outcome.step, tokens=outcome.tokens.tolist())

    def collected(self, budget: int) -> None:
        """Record the collector's budget, for a replay: it comes from measured times."""
        self.budgets.append(budget)

    def outputs(self, outputs: Outputs) -> None:
        """Record what clients are told."""
        answers = [(answer.number, _timeless(answer.value), answer.error) for answer in outputs.answers]
        self._event(kind="outputs", deltas=outputs.news(), stats=_timeless(outputs.stats or {}), answers=answers)

    def _event(self, **fields: object) -> None:
        self.events.append(msgspec.json.encode(fields).decode())


def _timeless(value: object) -> object:
    """Figures without those parts that are times, or have some."""
    if not isinstance(value, dict):
        return value
    return {part: figures for part, figures in value.items() if part not in {"collector", "collection_seconds"}}
