"""The systems that are compared: baselines on a plain loop, the engine with techniques off and on, and peers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from infergc.bench.scenarios.allocators import LEAST, Allocator, Doubling, Reserved
from infergc.bench.scenarios.meter import Meter
from infergc.bench.scenarios.outcome import GivenUp, Limits, Outcome
from infergc.bench.scenarios.plain import PlainLoop
from infergc.sim.catalog import MODELS
from infergc.sim.cost import Roofline
from infergc.sim.devices import DEVICES
from infergc.sim.requests import TraceRequest
from infergc.sim.served import Fate, Progress, serve
from infergc.sim.simulate import Setup, simulated_engine
from infergc.units import ceil_div

MODEL, DEVICE = MODELS["llama-3-8b"], DEVICES["a100-80g"]
COST = Roofline(MODEL, DEVICE)
TOKEN_BYTES = MODEL.kv_bytes_per_token
_COPY_RATE = DEVICE.bandwidth * DEVICE.bandwidth_share / (2 * TOKEN_BYTES)  # a copy reads and writes


@dataclass(frozen=True, slots=True)
class Load:
    """A workload.

    Attributes:
        requests: in order of arrival.
        seats: most of them that run at once.
        batch: most tokens in a step.
    """

    requests: tuple[TraceRequest, ...]
    seats: int = 256
    batch: int = 8192

    @property
    def longest(self) -> int:
        """Tokens of the longest text, in whole pages: the least that a server must be set up for."""
        return max(_whole(request.input_len + request.output_len) for request in self.requests)

    @property
    def ample(self) -> int:
        """Tokens of a pool that never refuses anything and forgets nothing."""
        return sum(_whole(request.input_len + request.output_len) + 2 * LEAST for request in self.requests)

    @property
    def output_tokens(self) -> int:
        """Of all requests."""
        return sum(request.output_len for request in self.requests)


class System(Protocol):
    """A way to keep KV, and what serves with it.

    Attributes:
        name: short.
        title: what it is.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - the protocol's attributes are explained above

    @property
    def title(self) -> str: ...  # noqa: D102

    def run(self, load: Load, pool: int | None, limits: Limits, progress: Progress) -> Outcome:
        """Serve a workload.

        Args:
            load: the workload.
            pool: bytes for KV; None for as many as are wanted.
            limits: at which the run is stopped.
            progress: told how many more requests are over.
        """
        ...


@dataclass(frozen=True, slots=True)
class Contiguous:
    """A baseline on the plain loop.

    Attributes:
        make: memory of a pool of tokens, for texts with so many tokens at most.
    """

    name: str
    title: str
    make: Callable[[int, int], Allocator]

    def run(self, load: Load, pool: int | None, limits: Limits, progress: Progress) -> Outcome:
        """See ``System``."""
        widest = load.longest * load.seats * 4  # room for all buffers to double, with holes between
        memory = self.make(widest if pool is None else pool // TOKEN_BYTES, load.longest)
        loop = PlainLoop(load.requests, memory, COST, load.seats, load.batch, _COPY_RATE)
        whole = True
        try:
            loop.run(limits, progress)
        except GivenUp:
            whole = False
        return Outcome(
            len(load.requests), loop.over, loop.now, load.output_tokens if whole else 0, memory.peak * TOKEN_BYTES,
            len(loop.preempted), loop.preemptions, *_fragmentation(memory), whole=whole,
        )  # fmt: skip


def _fragmentation(memory: Allocator) -> tuple[int | None, float | None, float | None]:
    """``spread_bytes``, ``holes`` and ``lost`` of an outcome."""
    if not isinstance(memory, Doubling):
        return None, None, None
    space = memory.space
    lost = memory.free_then / memory.refused / space.size if memory.refused else None
    return space.top * TOKEN_BYTES, 1 - space.held_at_top / space.top if space.top else 0.0, lost


@dataclass(frozen=True, slots=True)
class OnEngine:
    """The engine itself under a simulated executor, with these settings."""

    name: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "generational"

    def run(self, load: Load, pool: int | None, limits: Limits, progress: Progress) -> Outcome:
        """See ``System``."""
        meter = Meter(limits=limits)
        settings = {"max_num_seqs": load.seats, "max_num_batched_tokens": load.batch, **self.settings}
        kv_bytes = load.ample * TOKEN_BYTES if pool is None else pool
        setup = Setup(MODEL, COST, kv_bytes, self.policy, settings=settings)
        engine = meter.engine = simulated_engine(setup, load.requests, meter)
        fates: Sequence[Fate] = ()
        with suppress(GivenUp):
            fates = serve(engine, meter, load.requests, progress)
        done = [fate for fate in fates if fate.finished]
        return Outcome(
            len(load.requests), len(done), meter.now, sum(fate.tokens for fate in done), meter.peak_live,
            meter.preempted, engine.scheduler.counters.preemptions, whole=len(done) == len(load.requests),
        )  # fmt: skip


def _whole(tokens: int) -> int:
    return ceil_div(tokens, LEAST) * LEAST


_OFF = {"enable_prefix_caching": False, "compaction": False, "gc": "off"}
_LRU = {"compaction": False, "gc": "off"}
RESERVED = Contiguous("reserved", "(a) contiguous, reserved at the longest", Reserved)
DOUBLING = Contiguous("doubling", "(b) contiguous, doubled, first fit", Doubling)
MARGINS = (0.05, 0.1, 0.2, 0.3)  # that (b) may keep free at admission instead of none; the best is taken
CAUTIOUS = tuple(Contiguous(DOUBLING.name, DOUBLING.title, partial(Doubling, margin=margin)) for margin in MARGINS)
PAGED = OnEngine("paged", "(c) pages of 16 tokens, nothing shared", _OFF, "lru")
CACHED = OnEngine("cached", "(d) pages of 16 tokens, LRU prefix cache", _LRU, "lru")
OURS = OnEngine("ours", "Infer-GC")
BASELINES: tuple[System, ...] = (RESERVED, DOUBLING, PAGED, CACHED)
WITHOUT: tuple[System, ...] = (
    OnEngine("no-sharing", "without sharing prefixes", {"enable_prefix_caching": False}),
    OnEngine("no-generations", "without generations: LRU", {}, "lru"),
    OnEngine("no-compaction", "without compaction", {"compaction": False}),
    OnEngine("no-collector", "without the collector", {"gc": "off"}),
    OnEngine("no-planning-ahead", "without planning ahead", {"pipeline_depth": 1}),
)
