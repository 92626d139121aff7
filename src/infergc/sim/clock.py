"""Simulated time: it goes on with every step that lands, and notes what the heap held at each."""

from dataclasses import dataclass, field
from typing import NamedTuple

from infergc.engine.loop import Engine
from infergc.engine.ports import Sink
from infergc.heap.dump import pages_by_generation
from infergc.sched.plan import StepOutcome, StepPlan

_SAMPLES = 512  # of the timeline at most; then every other one goes


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes held at a moment, by state and generation; those with no generation under "".

    Attributes:
        seconds: after the workload began.
        held: state → generation → bytes, over all layer groups.
        running, waiting: requests.
        steps: that had landed.
    """

    seconds: float
    held: dict[str, dict[str, int]]
    running: int
    waiting: int
    steps: int


class Held(NamedTuple):
    """Bytes held over all layer groups, by state."""

    live: int
    cached: int
    in_transit: int

    @property
    def for_requests(self) -> int:
        """What is not there for others: held live, and in transit, which a step in flight still reads."""
        return self.live + self.in_transit


def held_bytes(engine: Engine) -> Held:
    """What an engine holds now. Cost: O(groups + pages held in flight)."""
    live = cached = in_transit = 0
    for group, pages in zip(engine.heap.stats(), engine.heap.groups, strict=True):
        live += group.live * pages.spec.page_bytes
        cached += group.cached * pages.spec.page_bytes
        in_transit += group.in_transit * pages.spec.page_bytes
    return Held(live, cached, in_transit)


@dataclass(slots=True)
class Clock(Sink):
    """A sink of one engine. Set ``engine`` once there is one.

    Attributes:
        now: seconds after the workload began.
        busy: of them, those in which a step ran.
        steps: that landed.
        most_running: sequences under way at once, at most.
        most_requests: under way at once, at most: each with all of its choices, however many sequences those are.
        running_seconds: sequences under way in each step times what it took, over all steps.
        peak_live: most bytes that were held for requests at once, over all layer groups, see ``Held.for_requests``.
        peak_cached: most bytes kept for reuse alone.
        sampled: whether to keep ``samples``: each looks at every page.
        samples: at most 512 moments, evenly spread in steps.
    """

    now: float = 0.0
    busy: float = 0.0
    steps: int = 0
    most_running: int = 0
    most_requests: int = 0
    running_seconds: float = 0.0
    peak_live: int = 0
    peak_cached: int = 0
    sampled: bool = False
    samples: list[Sample] = field(default_factory=list)
    engine: Engine | None = None
    _every: int = 1

    def planned(self, plan: StepPlan) -> None:  # noqa: ARG002 - the port's
        """Look at what is held: never more than between planning and landing."""
        held = held_bytes(self._watched())
        self.peak_live = max(self.peak_live, held.for_requests)
        self.peak_cached = max(self.peak_cached, held.cached)
        if self.sampled and self.steps % self._every == 0:
            self._sample()

    def landed(self, outcome: StepOutcome) -> None:
        """Let time go on by what the step took."""
        self.now += outcome.seconds
        self.busy += outcome.seconds
        self.steps += 1
        running = len(self._watched().scheduler.running)
        self.most_running = max(self.most_running, running)
        if running > self.most_requests:  # else there is no need to look
            self.most_requests = max(self.most_requests, self._requests())
        self.running_seconds += running * outcome.seconds

    @property
    def mean_running(self) -> float:
        """Sequences under way, on the average over time."""
        return self.running_seconds / self.now if self.now else 0.0

    def _watched(self) -> Engine:
        assert self.engine is not None, "the clock was given no engine"
        return self.engine

    def _requests(self) -> int:
        """Requests that run whole: no choice of theirs waits for room."""
        queues = self._watched().scheduler
        running, waiting = ({_request(each.id) for each in queue} for queue in (queues.running, queues.waiting))
        return len(running - waiting)

    def _sample(self) -> None:
        engine = self._watched()
        held: dict[str, dict[str, int]] = {}
        for pages, states in zip(engine.heap.groups, pages_by_generation(engine.heap).values(), strict=True):
            for state, generations in states.items():
                of_state = held.setdefault(state, {})
                for generation, count in generations.items():
                    of_state[generation] = of_state.get(generation, 0) + count * pages.spec.page_bytes
        queues = engine.scheduler
        self.samples.append(Sample(self.now, held, len(queues.running), len(queues.waiting), self.steps))
        if len(self.samples) == _SAMPLES:
            self.samples = self.samples[::2]
            self._every *= 2


def _request(choice: str) -> str:
    """The request of which a sequence is a choice, by its name."""
    return choice.partition("#")[0]
