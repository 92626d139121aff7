"""One simulated run and what a plan wants to know of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infergc.config import ConfigError
from infergc.planner.load import Load
from infergc.planner.machine import FewerReads, Machine
from infergc.sim.cost import CostModel
from infergc.sim.geometry import Geometry
from infergc.sim.requests import TraceRequest
from infergc.sim.served import Fate
from infergc.sim.simulate import Run, Setup, simulate

PREEMPTED = 0.01  # preemptions a request up to which requests count as fitting
MOST_SEQS = 4096  # that an engine runs
_THIRDS = 3  # of a run: one fills the places, one is looked at, one empties them
_FEW, _FEW_RECORDED = 32, 200  # requests of a run, at least: all alike, and as they come
_SLOW_STEPS = 6000  # of a run at a low rate, about, at most


@dataclass(frozen=True, slots=True)
class Engine:
    """What is simulated.

    Attributes:
        model: whose KV it is.
        machine: that computes.
        kv_bytes: of the pool.
        settings: of the engine, fields of ``EngineConfig``.
        policy: of retention.
        shrink: how many times fewer bytes K and V are to read.
    """

    model: Geometry
    machine: Machine
    kv_bytes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "generational"
    shrink: int = 1

    @property
    def cost(self) -> CostModel:
        """Of its steps."""
        cost = self.machine.cost(self.model)
        return FewerReads(cost, self.model, self.shrink) if self.shrink > 1 else cost


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles in seconds."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave.

    Attributes:
        requests: that were simulated.
        running, most_running: sequences under way, on the average over time and at most.
        most_requests: under way at once, at most, each with all of its choices.
        steady: whether rates are those of full places: enough requests came for leaving out those that fill and empty
            them.
        preempted: preemptions a request.
        recomputed: of all tokens computed, the share computed a second time because a preemption lost them.
        rate, prompt_rate, output_rate: requests, prompt tokens and output tokens a second, once all places are taken.
        ttft, tpot: to the first token, and a token after it; None where no request has any, as in beam searches.
        hits: of the prompts' tokens, the share found in the cache.
        evicted: pages of cached prefixes that were given up for space.
        refused: requests.
    """

    requests: int
    running: float
    most_running: int
    most_requests: int
    steady: bool
    preempted: float
    recomputed: float
    rate: float
    prompt_rate: float
    output_rate: float
    ttft: Spread | None
    tpot: Spread | None
    hits: float
    evicted: int
    refused: int


class Prober:
    """Runs simulations of one load.

    Args:
        load: that is planned for.
        progress: told how many runs are over.

    Attributes:
        runs: so far.
        count: requests of a run at full load; 0 for as many as its clients need.
        skip: requests that end first, and as many that end last, which rates leave out; 0 for as many as there are
            clients. Of a recorded load each request differs: rates can only be compared over the same ones.
    """

    def __init__(self, load: Load, progress: Callable[[int], None] = lambda _: None) -> None:
        self.load = load
        self.runs = 0
        self.count = 0
        self.skip = 0
        self._progress = progress

    def flat_out(self, engine: Engine, clients: int, count: int | None = None) -> Outcome:
        """So many clients, each asking again as soon as it has its answer, and places for all of them.

        Args:
            engine: that serves them.
            clients: at least 1.
            count: requests in all; as many as rates need if None.

        Raises:
            ConfigError: no engine can be made so.
        """
        requests = self.load.requests[: count or self._enough(clients)]
        most = min(MOST_SEQS, clients * self.load.choices)
        run = self._run(engine, requests, {"max_num_seqs": most}, clients)
        return _outcome(run, clients, max(self.skip, clients))

    @property
    def room(self) -> int:
        """Clients, at most, whose rates can be told from the runs of this load."""
        return min(self.skip, self.load.at_once(self.count)) if self.load.recorded else MOST_SEQS

    def settle(self, clients: int) -> None:
        """Let all runs that follow have the same requests, and rates look at the same ones.

        Args:
            clients: that run at once: runs with twice as many can be told too, if the load has enough.
        """
        if self.load.recorded:
            enough = max(_FEW_RECORDED, 2 * _THIRDS * clients, self.load.enough_for(2 * clients))
            self.count = min(len(self.load.requests), enough)
            self.skip = min(2 * clients, self.count // _THIRDS)

    def at_rate(self, engine: Engine, rate: float, seqs: int, flat_out_rate: float) -> Outcome:
        """Requests that come at so many a second, whether others are over or not.

        Args:
            engine: that serves them.
            rate: requests a second.
            seqs: sequences that run at most.
            flat_out_rate: requests a second at which all of these run, about.
        """
        running = max(1.0, seqs * rate / flat_out_rate)
        few = int(max(50.0, min(200.0, _SLOW_STEPS * running / self.load.mean_output)))
        count = few if running < seqs / 2 else max(few, self._enough(seqs))
        run = self._run(engine, self.load.at_rate(count, rate), {"max_num_seqs": seqs}, None)
        return _outcome(run, skip=0, rates_skip=0)

    def _enough(self, clients: int) -> int:
        """Requests of a run: a third fills the places, a third is looked at, a third empties them.

        Recorded ones differ, and only runs of the same ones can be compared: then there are as many in each.
        """
        if not self.load.recorded:
            return max(_FEW, _THIRDS * clients)
        return self.count or max(_FEW_RECORDED, _THIRDS * clients, self.load.enough_for(clients))

    def _run(
        self, engine: Engine, requests: Sequence[TraceRequest], settings: Mapping[str, Any], clients: int | None
    ) -> Run:
        every = {**engine.settings, **settings}
        setup = Setup(engine.model, engine.cost, engine.kv_bytes, engine.policy, settings=every, clients=clients)
        run = simulate(setup, requests)
        self.runs += 1
        self._progress(self.runs)
        return run


def fits(outcome: Outcome, clients: int) -> bool:
    """Whether so many clients really had their requests run at once, hardly any preempted."""
    return outcome.preempted <= PREEMPTED and outcome.most_requests >= clients and not outcome.refused


def tried(run: Callable[[], Outcome]) -> Outcome | None:
    """The outcome, or None where there can be no such engine."""
    try:
        return run()
    except ConfigError:
        return None


def _outcome(run: Run, skip: int, rates_skip: int) -> Outcome:
    """The figures of a run.

    Args:
        run: that is over.
        skip: requests that come to an empty engine: their times are left out.
        rates_skip: requests that end first, and as many that end last, which rates leave out if others are left.
    """
    fates, found = run.fates, run.figures
    steady = skip <= rates_skip and len(fates) >= _THIRDS * rates_skip
    rate, prompts, outputs = _rates(fates, rates_skip if steady else 0)
    computed = sum(fate.request.input_len - fate.cached + fate.tokens for fate in fates) + found["recomputed_tokens"]
    later = fates[skip:] or fates
    return Outcome(
        requests=len(fates),
        running=run.clock.mean_running,
        most_running=run.clock.most_running,
        most_requests=run.clock.most_requests,
        steady=steady,
        preempted=found["preemptions"] / len(fates),
        recomputed=found["recomputed_tokens"] / computed if computed else 0.0,
        rate=rate,
        prompt_rate=prompts,
        output_rate=outputs,
        ttft=_spread([fate.first - fate.request.arrival for fate in later if fate.first is not None]),
        tpot=_spread([_tpot(fate) for fate in later if fate.finished and _streams(fate.request)]),
        hits=found["token_hit_rate"],
        evicted=found["collector"]["evicted"],
        refused=found["refused"],
    )


def _rates(fates: Sequence[Fate], skip: int) -> tuple[float, float, float]:
    """Requests, prompt and output tokens a second, between the ends of the first ``skip`` and of the last ``skip``."""
    done = sorted((fate for fate in fates if fate.finished), key=lambda fate: fate.last or 0.0)
    begin = 0.0
    if len(done) > 2 * skip > 0:
        begin = done[skip - 1].last or 0.0
        done = done[skip : len(done) - skip]
    seconds = (done[-1].last or 0.0) - begin if done else 0.0
    if seconds <= 0:
        return 0.0, 0.0, 0.0
    prompts = sum(fate.request.input_len for fate in done)
    return len(done) / seconds, prompts / seconds, sum(fate.tokens for fate in done) / seconds


def _streams(request: TraceRequest) -> bool:
    """Whether its tokens come one after the other: a beam search tells its texts whole."""
    return request.output_len > 1 and not request.beam


def _tpot(fate: Fate) -> float:
    assert fate.first is not None, "it finished"
    assert fate.last is not None, "it finished"
    return (fate.last - fate.first) / (fate.request.output_len - 1)


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread(*np.percentile(np.array(values), (50, 90)).tolist()) if values else None
