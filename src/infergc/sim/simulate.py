"""One simulated run: an engine put together for a workload, driven to its end, and its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from infergc.config import ConfigError, engine_config
from infergc.engine.assembly import FORESEEING, assemble
from infergc.engine.loop import Engine
from infergc.sim.clock import Clock
from infergc.sim.cost import CostModel
from infergc.sim.executor import SimExecutor
from infergc.sim.figures import figures
from infergc.sim.geometry import Geometry
from infergc.sim.requests import TraceRequest
from infergc.sim.served import Fate, Progress, replay_cache, serve

Replay = Literal["served", "cache"]
REPLAYS: tuple[Replay, ...] = ("served", "cache")

MAX_NUM_SEQS = 256  # as servers on such devices are run, where the settings do not say otherwise
MAX_NUM_BATCHED_TOKENS = 8192
_ALONE = {"max_num_seqs": 1, "max_num_batched_tokens": 1 << 20, "pipeline_depth": 1}  # for the cache's replay


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run simulates.

    Attributes:
        model: whose KV it is.
        cost: of its steps.
        kv_bytes: of the pool.
        policy: of retention; one that needs the future, such as ``belady``, for the ``cache`` replay alone.
        replay: ``served`` keeps time and live memory; ``cache`` lets prompts come one by one, for retention alone.
        settings: of the engine, fields of ``EngineConfig``, where they are not to be as usual.
        clients: of ``served``: requests under way at a time, see ``sim.served.serve``; None: they come at their times.
    """

    model: Geometry
    cost: CostModel
    kv_bytes: int
    policy: str = "generational"
    replay: Replay = "served"
    settings: Mapping[str, Any] = field(default_factory=dict)
    clients: int | None = None

    def __post_init__(self) -> None:
        if self.policy in FORESEEING and self.replay != "cache":
            raise ConfigError(
                f"--policy: {self.policy} has to know which prompts will come, and in what order; that is so with "
                "--replay cache alone"
            )


@dataclass(frozen=True, slots=True)
class Run:
    """What a run gave: its figures (see ``sim.figures``), each request's fate, and the clock with its samples."""

    figures: dict[str, Any]
    fates: list[Fate]
    clock: Clock


def simulate(
    setup: Setup, requests: Sequence[TraceRequest], progress: Progress = lambda _: None, *, sampled: bool = False
) -> Run:
    """Run a workload to its end.

    Args:
        setup: what is simulated.
        requests: the workload, in order of arrival.
        progress: told how many more requests are over, as they go.
        sampled: whether to look at memory by state and generation as time goes on, for a plot.

    Raises:
        ConfigError: no engine can be made so; the message names the setting.
    """
    clock = Clock(sampled=sampled)
    engine = clock.engine = simulated_engine(setup, requests, clock)
    if setup.replay == "served":
        fates = serve(engine, clock, requests, progress, setup.clients)
    else:
        fates = replay_cache(engine, requests, progress)
    return Run(figures(setup.policy, engine, clock, fates), fates, clock)


def simulated_engine(setup: Setup, requests: Sequence[TraceRequest], clock: Clock) -> Engine:
    """The engine itself, around an executor that knows only what steps take.

    The model's context is as long as the workload needs: what is simulated is memory, not positions.
    """
    foreseeing = FORESEEING.get(setup.policy)
    prompts = ((request.salt, request.prompt(number)) for number, request in enumerate(requests))
    named = {} if foreseeing else {"retention_policy": setup.policy}
    usual = {"max_num_seqs": MAX_NUM_SEQS, "max_num_batched_tokens": MAX_NUM_BATCHED_TOKENS}
    config = engine_config(
        model=".",
        kv_cache_memory=setup.kv_bytes,
        **{**named, **usual, **setup.settings, **(_ALONE if setup.replay == "cache" else {})},
    )
    longest = max((request.input_len + request.output_len for request in requests), default=0)
    facts = setup.model.facts(config.block_size)
    facts = replace(facts, max_len=max(facts.max_len, longest + 1))
    executor = SimExecutor(facts, cost=setup.cost)
    engine = assemble(config, executor, [clock], foreseeing(prompts) if foreseeing else None)
    engine.pacer.rate = UnitAMicrosecond()
    engine.tells_stats = False
    return engine


class UnitAMicrosecond:
    """The collector's budgets from no clock: the same run twice is the same run. A unit takes about so long."""

    def units(self, micros: float, /) -> int:
        """See ``engine.pacing.Rate``."""
        return max(1, int(micros))

    def learn(self, budget: int, work: int, micros: float) -> None:
        """Of no concern here."""
