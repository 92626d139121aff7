"""A clock that notes what live requests hold, stops a run over its limits, and is quick: no timeline."""

from collections import Counter
from dataclasses import dataclass, field

from infergc.bench.scenarios.outcome import NO_LIMITS, Limits
from infergc.sched.plan import StepPlan
from infergc.sim.clock import Clock, held_bytes


@dataclass(slots=True)
class Meter(Clock):
    """A sink of one engine, whose requests have their number as seed.

    Attributes:
        limits: of the run.
        started: number of a request → times that it was given a slot; more than one after preemptions.
        preempted: requests with more than one.
    """

    limits: Limits = NO_LIMITS
    started: Counter[int] = field(default_factory=Counter)
    preempted: int = 0

    def planned(self, plan: StepPlan) -> None:
        """Look at what is held for requests.

        Raises:
            GivenUp: the run is over its limits.
        """
        self.peak_live = max(self.peak_live, held_bytes(self._watched()).for_requests)
        for binding in plan.bindings:
            assert binding.params.seed is not None
            self.started[binding.params.seed] += 1
            self.preempted += self.started[binding.params.seed] == 2
        self.limits.check(self.now, self.preempted)
