"""The scenarios in small, twice: on an engine with tensors, and on the simulator; their bytes are compared.

Both are given the same requests at once. Outputs differ, as a simulator has no model; what is held must not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infergc.bench.scenarios.cells import Tell
from infergc.bench.scenarios.workloads import (
    JUDGED_SHARE,
    Sizes,
    Traces,
    behind,
    concurrent,
    long_contexts,
    system_tokens,
)
from infergc.config import EngineConfig, engine_config
from infergc.engine.assembly import assemble, load_executor
from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.engine.ports import Executor, Sink
from infergc.params import SamplingParams
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim.clock import Held, held_bytes
from infergc.sim.executor import SimExecutor
from infergc.sim.requests import TraceRequest
from infergc.sim.served import Progress
from infergc.sim.simulate import UnitAMicrosecond
from infergc.units import ceil_div

_REQUESTS = 16
_LONG_SCALE, _SCALE = 32, 4  # lengths are divided by these
_MOST_OUTPUT = 48  # tokens
_SETTINGS = {"max_num_seqs": 8, "max_num_batched_tokens": 256, "dtype": "float32"}
_SHORT_POOL = 0.7  # of the peak with ample memory: short enough to queue and to reclaim


@dataclass(slots=True)
class HeldBytes(Sink):
    """A sink that notes what is held at every step, over all layer groups.

    Attributes:
        series: one entry a step.
        seconds: that each step took.
    """

    series: list[Held] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    engine: Engine | None = None

    def planned(self, plan: StepPlan) -> None:  # noqa: ARG002 - the port's
        """Look at what is held."""
        assert self.engine is not None
        self.series.append(held_bytes(self.engine))

    def landed(self, outcome: StepOutcome) -> None:
        """Note what it took."""
        self.seconds.append(outcome.seconds)

    @property
    def peak(self) -> int:
        """Most bytes held for live requests."""
        return max(held.for_requests for held in self.series)

    def bytes_for(self, tokens: int) -> int:
        """What a text of so many tokens takes."""
        assert self.engine is not None
        heap = self.engine.heap
        return ceil_div(tokens, heap.page_tokens) * sum(pages.spec.page_bytes for pages in heap.groups)


@dataclass(frozen=True, slots=True)
class Took:
    """A cost model: the steps take so long, in order, and beyond that no time.

    Attributes:
        steps: seconds of each.
    """

    steps: Iterator[float]

    def seconds(self, plan: StepPlan) -> float:  # noqa: ARG002 - the protocol's
        """See ``sim.cost.CostModel``."""
        return next(self.steps, 0.0)

    def copying(self, size: int) -> float:  # noqa: ARG002 - the protocol's
        """Nothing: there are no tiers."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides of one scenario.

    Attributes:
        scenario: its number.
        measured: of the engine with tensors.
        simulated: of the simulator.
    """

    scenario: int
    measured: list[HeldBytes]
    simulated: list[HeldBytes]

    @property
    def equal(self) -> bool:
        """Whether both held the same bytes in every step."""
        pairs = zip(self.measured, self.simulated, strict=True)
        return all(one.series == other.series for one, other in pairs)

    @property
    def figures(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "scenario": self.scenario,
            "steps": sum(len(run.series) for run in self.measured),
            "peak_bytes": self.measured[0].peak,
            "simulated_peak_bytes": self.simulated[0].peak,
            "equal": self.equal,
        }


def twins(numbers: Sequence[int], traces: Traces, model: Path, seed: int, tell: Tell) -> list[dict[str, Any]]:
    """Compare each scenario in small; figures of all.

    Raises:
        ConfigError, OSError, ValueError: the model cannot be used.
    """
    return [compare(number, small(number, traces, seed), model, tell).figures for number in numbers]


def small(number: int, traces: Traces, seed: int) -> list[TraceRequest]:
    """The first requests of a scenario, all at once, shorter by a constant; what they share stays shared."""
    sizes = Sizes(long=_REQUESTS, many=_REQUESTS, seed=seed)
    if number == 1:
        return [_shorter(request, _LONG_SCALE) for request in long_contexts(traces, sizes).requests]
    tails = concurrent(traces, sizes)
    system = system_tokens(tails.requests, JUDGED_SHARE) if number == 3 else 0
    return [_shorter(request, _SCALE) for request in behind(tails, system).requests]


def _shorter(request: TraceRequest, scale: int) -> TraceRequest:
    """Blocks keep their ids, and shrink."""
    tokens = max(1, request.block_tokens // scale)
    output = max(1, min(_MOST_OUTPUT, request.output_len // scale))
    length = ceil_div(request.input_len, scale)
    return replace(request, arrival=0.0, input_len=length, output_len=output, block_tokens=tokens)


def compare(number: int, requests: Sequence[TraceRequest], model: Path, tell: Tell) -> Comparison:
    """Run the requests on both sides, with ample memory and with too little."""
    longest = max(request.input_len + request.output_len for request in requests)
    settings = {**_SETTINGS, "model": model, "max_model_len": longest + 1}
    ample = engine_config(**settings, kv_cache_memory="1GiB")
    wide = _both(ample, requests, tell(f"{number} in small, ample", len(requests)))
    short = max(round(wide[0].peak * _SHORT_POOL), wide[0].bytes_for(longest + 1))
    tight = ample.model_copy(update={"kv_cache_memory": short})
    narrow = _both(tight, requests, tell(f"{number} in small, short of memory", len(requests)))
    measured, simulated = zip(wide, narrow, strict=True)
    return Comparison(number, list(measured), list(simulated))


def _both(config: EngineConfig, requests: Sequence[TraceRequest], progress: Progress) -> tuple[HeldBytes, HeldBytes]:
    """How long prompts share steps depends on what steps take: the simulator's take what the engine's took."""
    executor = load_executor(config)
    measured = _run(config, executor, requests, progress)
    simulator = SimExecutor(executor.facts, cost=Took(iter(measured.seconds)))
    return measured, _run(config, simulator, requests, lambda _: None)


def _run(config: EngineConfig, executor: Executor, requests: Sequence[TraceRequest], progress: Progress) -> HeldBytes:
    held = HeldBytes()
    engine = held.engine = assemble(config, executor, [held])
    engine.pacer.rate = UnitAMicrosecond()  # what is cached depends on it
    vocab = executor.facts.vocab_size
    commands = [
        Submit(str(number), spelled(request, vocab), _params(request, number))
        for number, request in enumerate(requests)
    ]
    while commands or engine.has_work():
        outputs, commands = engine.step(commands), []
        progress(sum(bool(delta.finish) for delta in outputs.deltas))
    engine.close()
    return held


def _params(request: TraceRequest, number: int) -> SamplingParams:
    return SamplingParams(max_tokens=request.output_len, ignore_eos=True, seed=number)


def spelled(request: TraceRequest, vocab: int) -> list[int]:
    """A prompt of a small vocabulary: each block's tokens are the digits of its id, lowest first."""
    size = request.block_tokens
    tokens = [block // vocab**digit % vocab for block in request.blocks for digit in range(size)]
    return tokens[: request.input_len]
