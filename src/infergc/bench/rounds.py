"""What happened in one round of a load: steps, the worker's time, and when tokens came. Times are in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter

from infergc.engine.messages import Outputs
from infergc.engine.ports import Sink
from infergc.sched.plan import StepOutcome, StepPlan


@dataclass(slots=True)
class Round:
    """One round.

    Attributes:
        seconds: from the first request given to the last token received.
        worker: the worker was busy.
        plans: of every step.
        arrivals: request → when each of its tokens came, from the round's start.
        digest: of all outputs.
    """

    seconds: float = 0.0
    worker: float = 0.0
    plans: list[StepPlan] = field(default_factory=list)
    arrivals: dict[str, list[float]] = field(default_factory=dict)
    digest: str = ""

    @property
    def first_tokens(self) -> list[float]:
        """Each request's time to its first token."""
        return [times[0] for times in self.arrivals.values()]

    @property
    def gaps(self) -> list[float]:
        """Times between tokens, of all requests; none if each generates one token."""
        return [after - before for times in self.arrivals.values() for before, after in pairwise(times)]


class StepLog(Sink):
    """A sink that gathers a round at a time."""

    def __init__(self) -> None:
        self._round = Round()
        self._began = 0.0

    def begin(self) -> None:
        """A round starts now."""
        self._round, self._began = Round(), perf_counter()

    def end(self) -> Round:
        """The round is over now."""
        self._round.seconds = perf_counter() - self._began
        return self._round

    def planned(self, plan: StepPlan) -> None:
        """See ``engine.ports.Sink``."""
        self._round.plans.append(plan)

    def landed(self, outcome: StepOutcome) -> None:
        """See ``engine.ports.Sink``."""
        self._round.worker += outcome.seconds

    def outputs(self, outputs: Outputs) -> None:
        """See ``engine.ports.Sink``."""
        now = perf_counter() - self._began
        self._arrived((delta.request_id for delta in outputs.deltas if delta.tokens), now)
        self._arrived(outputs.ids, now)

    def _arrived(self, requests: Iterable[str], now: float) -> None:
        for request in requests:
            self._round.arrivals.setdefault(request, []).append(now)
