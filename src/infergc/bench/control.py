"""The control plane alone: the whole engine loop under an executor that computes nothing.

Two loads for R running sequences. ``lockstep``: R requests come together, are prefilled, and all decode.
``churn``: several times R requests wait at the start, their outputs differ in length, and the pool holds R
sequences and a little more: so requests end and start all the time and the cache evicts.
A step is all that ``Engine.step`` does: commands, plan, commit, news for clients and counters. What the
executor takes to make up tokens is measured apart and left out.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean, median
from time import perf_counter
from typing import Any, Literal

from infergc import __version__
from infergc.config import ConfigError, engine_config
from infergc.engine.assembly import assemble
from infergc.engine.garbage import PythonGarbage
from infergc.engine.loop import Engine
from infergc.engine.messages import Outputs, Submit
from infergc.engine.ports import ModelFacts
from infergc.params import SamplingParams
from infergc.sched.plan import StepPlan
from infergc.sim.executor import DoneFlight, SimExecutor
from infergc.sim.geometry import Geometry
from infergc.units import ceil_div

Scenario = Literal["lockstep", "churn"]
SCENARIOS: tuple[Scenario, ...] = ("lockstep", "churn")

_LONGEST = 1 << 20  # tokens of a request
MODEL = Geometry("82M", 12, 768, 12, 4, 64, 2048, vocab=8192, max_len=_LONGEST, tied=True, eos_ids=(1,))
_MOST_SLACK = 100
_MOST_PAGES = 1 << 22  # a pool that any machine can book
_IDS = (10, 8000)  # of prompts


@dataclass(frozen=True, slots=True)
class ControlLoad:
    """What is asked of the engine.

    Attributes:
        running: most sequences that run at a time.
        input_len: tokens of a prompt.
        output_len: tokens of an output; in churn the mean of outputs of half to one and a half times as many.
        shared_prefix: first tokens of a prompt that all have in common.
        block_size: tokens in a page.
        batched_tokens: most tokens in a step.
        waves: in churn, requests for each running sequence.
        slack: pages in the pool, as a multiple of what the running sequences take.
        pipeline_depth: steps in flight.
        seed: of prompts and lengths.
    """

    running: int
    input_len: int = 512
    output_len: int = 128
    shared_prefix: int = 0
    block_size: int = 16
    batched_tokens: int = 8192
    waves: int = 4
    slack: float = 1.25
    pipeline_depth: int = 2
    seed: int = 0

    def check(self) -> None:
        """See that the load can be run.

        Raises:
            ConfigError: it cannot; the message names the flag.
        """
        if not 0 <= self.shared_prefix <= self.input_len:
            raise ConfigError(
                f"--shared-prefix: {self.shared_prefix} is not allowed; it must be 0 to --input-len, {self.input_len}"
            )
        if not 1 <= self.slack <= _MOST_SLACK:  # nor is "not a number" in between
            raise ConfigError(
                f"--slack: {self.slack} is not allowed; it must be 1, which holds what runs, to {_MOST_SLACK}"
            )
        if self.longest > _LONGEST:
            raise ConfigError(
                f"--input-len and --output-len: {self.input_len} + {self.longest - self.input_len} tokens, the longest "
                f"output in churn, are over {_LONGEST}, which is what one request may have"
            )
        if self.pages > _MOST_PAGES:
            raise ConfigError(
                f"--running {self.running}: the pool would have {self.pages:,} pages, over {_MOST_PAGES:,}; make "
                "--input-len, --output-len or --slack less, or --block-size more"
            )

    @property
    def longest(self) -> int:
        """Most tokens of a request."""
        return self.input_len + self.output_len + self.output_len // 2

    @property
    def pages(self) -> int:
        """Pages in the pool."""
        return int(self.running * ceil_div(self.input_len + self.output_len, self.block_size) * self.slack) + 1

    def requests(self, scenario: Scenario) -> list[Submit]:
        """All requests, in order of arrival."""
        draw = random.Random(self.seed)  # noqa: S311 - a load, no secret
        count = self.running if scenario == "lockstep" else self.running * self.waves
        prefix = [draw.randrange(*_IDS) for _ in range(self.shared_prefix)]
        own = self.input_len - self.shared_prefix
        prompts = [prefix + [draw.randrange(*_IDS) for _ in range(own)] for _ in range(count)]
        lengths = [self._output(draw, scenario) for _ in range(count)]
        return [
            Submit(f"r{at}", prompt, SamplingParams(max_tokens=length, ignore_eos=True, temperature=0.0, seed=at))
            for at, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
        ]

    def _output(self, draw: random.Random, scenario: Scenario) -> int:
        half = self.output_len // 2
        return self.output_len if scenario == "lockstep" else draw.randint(max(1, half), self.output_len + half)


@dataclass(frozen=True, slots=True)
class Step:
    """One call of ``Engine.step``.

    Attributes:
        seconds: of the control plane.
        executor: seconds of the executor, not in ``seconds``.
        rows, computed: sequences and tokens of the plan that was launched.
        gained: tokens that clients were told.
    """

    seconds: float
    executor: float
    rows: int
    computed: int
    gained: int


@dataclass(frozen=True, slots=True)
class Spread:
    """How long steps took, in microseconds, and how many there were."""

    mean: float
    median: float
    p99: float
    max: float
    n: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Costs over some steps, in microseconds.

    Attributes:
        us_per_step: of the control plane.
        us_per_token: the same, by token that a client was told.
        executor_us_per_token: what making tokens up took, which no other figure contains.
        tokens: that clients were told.
    """

    us_per_step: Spread
    us_per_token: float
    executor_us_per_token: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario took.

    Attributes:
        overall: every step, the first of which takes all requests in.
        decode: the steps in which each of R sequences computes one token; None if there was none.
        counters: of scheduler and heap, at the end.
    """

    load: ControlLoad
    scenario: Scenario
    overall: Figures
    decode: Figures | None
    counters: dict[str, int]


class IdleExecutor(SimExecutor):
    """Makes tokens up as the simulator does and keeps the time that takes apart."""

    spent = 0.0
    rows = 0
    computed = 0

    def launch(self, plan: StepPlan) -> DoneFlight:
        """Draw the tokens; note the time and what was planned."""
        began = perf_counter()
        flight = super().launch(plan)
        self.rows, self.computed = len(plan.slots), plan.tokens
        self.spent += perf_counter() - began
        return flight


def facts(page_tokens: int) -> ModelFacts:
    """Of the benchmarked model, its vocabulary and end included."""
    return MODEL.facts(page_tokens, MODEL.vocab, MODEL.eos_ids)


def measure(load: ControlLoad, scenario: Scenario) -> Result:
    """Run one scenario to its end.

    Raises:
        ConfigError: no engine can be made for the load; the message names the flag.
    """
    load.check()
    executor = IdleExecutor(facts(load.block_size))
    engine = _engine(load, executor)
    requests = load.requests(scenario)
    with PythonGarbage(engine.ready.memory) as garbage:
        garbage.freeze()
        steps = list(_drive(engine, executor, requests))
    expected = sum(request.params.max_tokens or 0 for request in requests)
    assert sum(step.gained for step in steps) == expected, "the engine gave other tokens than it was asked for"
    decode = [step for step in steps if step.rows == step.computed == step.gained == load.running][:-1]
    parts = (engine.scheduler.counters, engine.heap.counters)
    counters = {
        name: number for part in parts for name in part.__slots__ if isinstance(number := getattr(part, name), int)
    }
    return Result(load, scenario, figures(steps), figures(decode) if decode else None, counters)


def figures(steps: list[Step]) -> Figures:
    """Sum up some steps."""
    micros = sorted(step.seconds * 1e6 for step in steps)
    p99 = micros[min(len(micros) - 1, int(0.99 * len(micros)))]
    tokens = sum(step.gained for step in steps)
    spread = Spread(fmean(micros), median(micros), p99, micros[-1], len(micros))
    return Figures(spread, sum(micros) / tokens, sum(step.executor for step in steps) * 1e6 / tokens, tokens)


def plain(results: list[Result]) -> dict[str, Any]:
    """The figures as data for JSON, by running sequences and scenario; all results are of like loads."""
    by_running: dict[int, dict[str, Any]] = {}
    for result in results:
        entry = by_running.setdefault(result.load.running, {"num_blocks": result.load.pages})
        entry[result.scenario] = {
            **asdict(result.overall),
            "decode": result.decode and asdict(result.decode),
            "counters": result.counters,
        }
    config = asdict(results[0].load)
    del config["running"]
    return {"engine": "infergc", "version": __version__, "by_running": by_running, "config": config}


def _engine(load: ControlLoad, executor: IdleExecutor) -> Engine:
    config = engine_config(
        model=".",
        kv_cache_memory=load.pages * sum(group.page_bytes for group in executor.facts.groups),
        block_size=load.block_size,
        max_model_len=load.longest,
        max_num_seqs=load.running,
        max_num_batched_tokens=max(load.batched_tokens, load.running),
        pipeline_depth=load.pipeline_depth,
    )
    return assemble(config, executor)


def _drive(engine: Engine, executor: IdleExecutor, requests: list[Submit]) -> Iterator[Step]:
    commands = requests
    while commands or engine.has_work():
        spent, executor.rows, executor.computed = executor.spent, 0, 0
        began = perf_counter()
        outputs = engine.step(commands)
        total = perf_counter() - began
        apart = executor.spent - spent
        yield Step(total - apart, apart, executor.rows, executor.computed, _tokens(outputs))
        commands = []


def _tokens(outputs: Outputs) -> int:
    return len(outputs.tokens) + sum(len(delta.tokens) for delta in outputs.deltas)
