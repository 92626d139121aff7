"""Step times of this machine: measured on the engine, fitted, and held against steps that were not fitted to."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median

import numpy as np

from infergc import __version__
from infergc.bench.calibration_loads import MOST_OUTPUT, Arrival, Wave, fitted_waves, held_out_waves, run_wave
from infergc.bench.fits import check_fits
from infergc.bench.machine import machine
from infergc.bench.workload import Load
from infergc.config import EngineConfig
from infergc.engine.assembly import assemble, load_executor
from infergc.engine.loop import Engine
from infergc.engine.ports import Executor, Sink
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim.calibration import CalibratedCost, Calibration, HeldOut, fit, relative_errors
from infergc.sim.hf_geometry import read_geometry
from infergc.sim.work import StepWork, WindowLayers, work_of

_QUIET = 0.1  # by the CPU time of the worker's thread equal steps differ by some 1 %


class StepTimes(Sink):
    """A sink that keeps each step's work and how long the worker was busy with it.

    Args:
        windows: of the model's layers.
    """

    def __init__(self, windows: WindowLayers) -> None:
        self._windows = windows
        self._works: list[StepWork] = []
        self._seconds: list[float] = []

    def planned(self, plan: StepPlan) -> None:
        """See ``engine.ports.Sink``."""
        self._works.append(work_of(plan, self._windows))

    def landed(self, outcome: StepOutcome) -> None:
        """See ``engine.ports.Sink``; steps land in the order of their plans."""
        self._seconds.append(outcome.seconds)

    def take(self) -> list[tuple[StepWork, float]]:
        """The steps since the last call, all of which have landed."""
        taken = list(zip(self._works, self._seconds, strict=True))
        self._works, self._seconds = [], []
        return taken


@dataclass(frozen=True, slots=True)
class Steps:
    """Measured steps, those with equal work taken together.

    Attributes:
        works: each once.
        seconds: the shortest of each: other work on the machine only adds.
        noise: median of how much longer a measurement is than the shortest of its step, relative to that; None if
            every work was measured once.
    """

    works: tuple[StepWork, ...]
    seconds: tuple[float, ...]
    noise: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """How well steps were predicted.

    Attributes:
        name: of the load, or of the part of it that is looked at.
        steps: with different work.
        median, p90: of |predicted - measured| / measured.
        total: predicted over measured time of all steps together.
        noise: see ``Steps``.
    """

    name: str
    steps: int
    median: float
    p90: float
    total: float
    noise: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """The calibration, and how well it did: on what it was fitted to, on the held-out load, on the loads asked for."""

    calibration: Calibration
    predictions: tuple[Prediction, ...]

    @property
    def is_quiet(self) -> bool:
        """Whether equal steps took about as long each time; otherwise other work held some of them up."""
        return all(one.noise is None or one.noise <= _QUIET for one in self.predictions)


def run(config: EngineConfig, loads: Sequence[Load], rounds: int, longest: int) -> Report:
    """Measure, fit, and predict other loads.

    Args:
        config: of the engine; its seed draws prompts and the held-out load.
        loads: to predict beside the held-out one.
        rounds: each load is run so many times, with other prompts; a step's time is its shortest.
        longest: tokens of a prompt, at most.

    Raises:
        ConfigError: a setting is wrong, or the engine cannot take such requests; the message names the flag.
        OSError, ValueError, RuntimeError: the engine cannot be built.
    """
    times = StepTimes(read_geometry(config.model).window_layers)
    executor = load_executor(config)
    try:
        engine = assemble(config, executor, [times])
        for load in loads:
            check_fits(load, engine.ready.max_model_len, "--load")
        bench = _Bench(config, engine, times, rounds)
        longest = max(1, min(longest, engine.ready.max_model_len - MOST_OUTPUT))
        waves = fitted_waves(config.max_num_seqs, longest)
        bench.steps("warm-up", waves[-1:])
        fitted = bench.steps("fitted", waves)
        held_out = bench.steps("held-out", held_out_waves(longest, config.seed))
        others = {str(load): bench.steps(str(load), [_wave(load)]) for load in loads}
        return _report(config, executor, fitted, held_out, others)
    finally:
        executor.close()


@dataclass(frozen=True, slots=True)
class _Bench:
    """An engine and how it is measured."""

    config: EngineConfig
    engine: Engine
    times: StepTimes
    rounds: int

    def steps(self, name: str, waves: list[Wave]) -> Steps:
        """Run the waves, round by round with other prompts; the name and the engine's seed draw these."""
        measured: dict[StepWork, list[float]] = {}
        for number in range(self.rounds):
            for at, wave in enumerate(waves):
                run_wave(self.engine, wave, f"{name}-{self.config.seed}-{number}-{at}")
            for work, seconds in self.times.take():
                measured.setdefault(work, []).append(seconds)
        least = {work: min(each) for work, each in measured.items()}
        repeated = [one / least[work] - 1 for work, each in measured.items() for one in each if len(each) > 1]
        return Steps(tuple(least), tuple(least.values()), median(repeated) if repeated else None)


def _wave(load: Load) -> Wave:
    return [Arrival(0, load.input_len, load.output_len)] * load.requests


def _report(
    config: EngineConfig, executor: Executor, fitted: Steps, held_out: Steps, others: dict[str, Steps]
) -> Report:
    model = replace(read_geometry(config.model), dtype=executor.facts.dtype)
    terms = fit(fitted.works, fitted.seconds)
    cost = CalibratedCost(terms, model)
    whole = _prediction("held out", cost, held_out)
    calibration = Calibration(
        model=model,
        digest=executor.facts.digest,
        backend=executor.backend,
        threads=config.threads or len(os.sched_getaffinity(0)),
        page_tokens=config.block_size,
        machine=machine(),
        software=__version__,
        date=datetime.now(UTC).date().isoformat(),
        terms=terms,
        held_out=HeldOut(steps=whole.steps, median=whole.median, p90=whole.p90),
    )
    parts = [_prediction(f"held out, {name}", cost, part) for name, part in _parts(held_out)]
    rest = [_prediction(name, cost, each) for name, each in others.items()]
    return Report(calibration, (_prediction("fitted to", cost, fitted), whole, *parts, *rest))


def _parts(steps: Steps) -> list[tuple[str, Steps]]:
    """Steps that only decode, and those with chunks of prompts; each part if there is one."""
    found = []
    for name, with_chunks in (("decodes alone", False), ("with chunks", True)):
        picked = [at for at, work in enumerate(steps.works) if (work.chunk_pairs > 0) == with_chunks]
        if picked:
            works, seconds = tuple(steps.works[at] for at in picked), tuple(steps.seconds[at] for at in picked)
            found.append((name, Steps(works, seconds, steps.noise)))
    return found


def _prediction(name: str, cost: CalibratedCost, steps: Steps) -> Prediction:
    errors = relative_errors(cost, steps.works, steps.seconds)
    total = sum(cost.of(work) for work in steps.works) / sum(steps.seconds)
    middle, high = np.quantile(errors, (0.5, 0.9))
    return Prediction(name, len(errors), float(middle), float(high), total, steps.noise)
