"""Tokens a second of the whole engine under a load, beside the least time that its steps could take."""

import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from statistics import median_low
from typing import Any, cast

from infergc.bench.bound import Bound, bound, row_counts
from infergc.bench.fits import LENGTHS, check_fits
from infergc.bench.rounds import Round, StepLog
from infergc.bench.workload import Load, digest
from infergc.config import EngineConfig
from infergc.engine.assembly import assemble
from infergc.engine.messages import Submit
from infergc.engine.rates import MachineRates
from infergc.llm import LLM
from infergc.params import SamplingParams

# What measures tensors stands behind the torch line, so it is found by name.
_RATES = "infergc.worker.rates:measure_rates"
_TIMED = "infergc.worker.timed:create_timed_executor"
_TOLERANCE = 1.05  # products alone over products within the run: more is not noise of a quiet machine


@dataclass(frozen=True, slots=True)
class Split:
    """Where the time of a round went, in seconds; the parts add up to the round.

    How the worker's time falls apart is known from another round, with clocks in it.

    Attributes:
        products: matrix products, as the engine runs them.
        attention: planning it, writing K and V, attending.
        rowwise: norms, rotation, activation, embedding.
        rest: what else the worker does: laying out the batch, sampling, calls.
        engine: the worker waits: planning and output that no step overlaps.
    """

    products: float
    attention: float
    rowwise: float
    rest: float
    engine: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a run measured.

    Attributes:
        load: what was run.
        dtype, backend: what it ran in, as the engine says.
        kv_bytes: memory that the engine had for KV.
        rounds: the measured ones.
        peak_bytes: the process's largest resident set, before anything but the load was run.
        rates, bound, split: of the machine and of the median round; None unless asked for.
        clocked_products: seconds of matrix products in the round with clocks in it, which goes layer by layer.
    """

    load: Load
    dtype: str
    backend: str
    kv_bytes: int
    rounds: list[Round]
    peak_bytes: int
    rates: MachineRates | None = None
    bound: Bound | None = None
    split: Split | None = None
    clocked_products: float = 0.0

    @property
    def most_products(self) -> float:
        """Seconds of matrix products in a round, as clocked or by their share, whichever is more.

        Small steps take longer layer by layer, and there the share of products is less than in the median round.
        """
        assert self.split is not None
        return max(self.split.products, self.clocked_products)

    @property
    def has_sound_bound(self) -> bool:
        """Whether the bound can be one: it is no longer than what it bounds, beyond what a quiet machine varies by.

        Where it is not, other work held the machine up while the bound was measured.
        """
        assert self.bound is not None
        within = self.bound.products <= _TOLERANCE * self.most_products
        return within and self.bound.with_attention <= self.median_round.seconds

    @property
    def speeds(self) -> list[float]:
        """Output tokens a second, round by round."""
        return [self.load.generated / one.seconds for one in self.rounds]

    @property
    def median_round(self) -> Round:
        """The round in the middle by its time; of two the faster."""
        seconds = median_low(one.seconds for one in self.rounds)
        return next(one for one in self.rounds if one.seconds == seconds)

    @property
    def speed(self) -> float:
        """Output tokens a second in the median round."""
        return self.load.generated / self.median_round.seconds

    @property
    def decode_speed(self) -> float | None:
        """Tokens a second of one request after its first token, in the median round; None if there are none."""
        gaps = self.median_round.gaps
        return len(gaps) / sum(gaps) if gaps else None


def run(config: EngineConfig, load: Load, rounds: int, warmup: int, *, with_bound: bool) -> Report:
    """Load a model, run the load round after round, then measure what the machine allows.

    Rounds are numbered from the first that warms up, and each has prompts of its own.

    Raises:
        ConfigError: the model cannot take such requests, or a setting is wrong; the message names the flag.
        OSError, ValueError, RuntimeError: the engine cannot be built.
    """
    report = _measured(config, load, rounds, warmup)
    return _explained(report, config) if with_bound else report


def _measured(config: EngineConfig, load: Load, rounds: int, warmup: int) -> Report:
    log = StepLog()
    with LLM(**config.model_dump(), sinks=[log]) as llm:
        check_fits(load, llm.ready.max_model_len, LENGTHS)
        done = [_round(llm, log, load, number) for number in range(warmup + rounds)]
        ready = llm.ready
    return Report(load, ready.dtype, ready.backend, ready.memory["kv"], done[warmup:], _peak_bytes())


def _greedy(load: Load) -> SamplingParams:
    return SamplingParams(max_tokens=load.output_len, temperature=0, ignore_eos=True, seed=0)


def _round(llm: LLM, log: StepLog, load: Load, number: int) -> Round:
    prompts = load.prompts(number, llm.ready.vocab_size)
    log.begin()
    results = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], _greedy(load), use_tqdm=False)
    done = log.end()
    done.digest = digest([result.outputs[0].token_ids for result in results])
    return done


def _explained(report: Report, config: EngineConfig) -> Report:
    """The same with the machine's rates, the bound, and where the rest goes.

    A bound that cannot be one is measured once more: other work may have been over in a moment.
    """
    seconds, worker = _clocked(config.model_copy(update={"memory": None, "kv_cache_memory": report.kv_bytes}), report)
    shares = {name: each / worker for name, each in seconds.items()}
    split = _split(report.median_round, shares)
    report = replace(report, split=split, clocked_products=seconds["products"])
    found = _bounded(report, config)
    return found if found.has_sound_bound else _bounded(report, config)


def _bounded(report: Report, config: EngineConfig) -> Report:
    plans = report.median_round.plans
    rates: MachineRates = _found(_RATES)(
        config.model,
        report.dtype,
        config.threads or len(os.sched_getaffinity(0)),
        row_counts(plan.tokens for plan in plans),
        row_counts(int(plan.sample.sum()) for plan in plans),
    )
    return replace(report, rates=rates, bound=bound(plans, rates))


def _split(typical: Round, shares: dict[str, float]) -> Split:
    parts = {name: typical.worker * share for name, share in shares.items()}
    return Split(**parts, rest=typical.worker - sum(parts.values()), engine=typical.seconds - typical.worker)


def _clocked(config: EngineConfig, report: Report) -> tuple[dict[str, float], float]:
    """Seconds by what they were spent on, and of the worker in all: one more round, with clocks in the worker."""
    executor, watch = _found(_TIMED)(config)
    log = StepLog()
    engine = assemble(config, executor, [log])
    try:
        prompts = report.load.prompts(0, executor.facts.vocab_size)
        watch.reset()
        log.begin()
        engine.step([Submit(str(index), prompt, _greedy(report.load)) for index, prompt in enumerate(prompts)])
        while engine.has_work():
            engine.step()
        return dict(watch.seconds), log.end().worker
    finally:
        engine.close()


def _found(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    return cast(Callable[..., Any], getattr(import_module(module), function))


def _peak_bytes() -> int:
    """The largest resident set so far; Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
