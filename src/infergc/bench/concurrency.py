"""How many requests run at once without being preempted: measured on the engine, beside what the planner says."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from infergc.bench.fits import LENGTHS, check_fits
from infergc.bench.workload import Load
from infergc.config import ConfigError, EngineConfig
from infergc.engine.assembly import build_engine
from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.engine.ports import Sink
from infergc.params import SamplingParams
from infergc.planner.load import of_one_length
from infergc.planner.machine import machine_for
from infergc.planner.probe import MOST_SEQS, PREEMPTED, Prober
from infergc.planner.probe import Engine as Simulated
from infergc.planner.search import most_clients
from infergc.sched.plan import StepPlan
from infergc.sim.geometry import Geometry
from infergc.sim.hf_geometry import read_geometry

_WAVES = 3  # requests for each that is let in
_FEW = 32  # requests, at least
_MISSES = 2  # in a row end a sweep


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep.

    Attributes:
        seqs: that were let in at a time.
        running: that ran at once, at most.
        preempted: preemptions a request.
        rate: requests a second of wall time.
    """

    seqs: int
    running: int
    preempted: float
    rate: float

    @property
    def holds(self) -> bool:
        """Whether all of them ran together, and hardly any gave way."""
        return self.running >= self.seqs and self.preempted <= PREEMPTED


@dataclass(frozen=True, slots=True)
class Sweep:
    """Runs with ever more requests let in.

    Attributes:
        points: in rising order, up to two that do not hold.
        planned: what the planner says runs at once, of the same model, memory and lengths.
    """

    points: tuple[Point, ...]
    planned: int

    @property
    def measured(self) -> int:
        """The most that ran at once; 0 if none did."""
        return max((point.seqs for point in self.points if point.holds), default=0)


class Watch(Sink):
    """A sink that sees how many run. Set ``engine`` once there is one.

    Attributes:
        most: that were under way at once.
    """

    def __init__(self) -> None:
        self.most = 0
        self.engine: Engine | None = None

    def planned(self, plan: StepPlan) -> None:  # noqa: ARG002 - the port's
        """Requests that end with this step are still there."""
        assert self.engine is not None, "the watch was given no engine"
        self.most = max(self.most, len(self.engine.scheduler.running))


def sweep(
    config: EngineConfig, input_len: int, output_len: int, progress: Callable[[int], None] = lambda _: None
) -> Sweep:
    """Run the engine with ever more requests let in until they no longer run at once, and ask the planner.

    Begins with half as many as the pool holds whole, or with fewer where these do not run at once. All requests of a
    run are there from the start.

    Args:
        config: of the engine; its ``max_num_seqs`` is what is swept, and its KV memory must be given.
        input_len: tokens of each prompt; no two share any.
        output_len: tokens of each output.
        progress: told before each run how many are let in.

    Raises:
        ConfigError: the engine cannot take such requests, or a setting is wrong.
        OSError, ValueError, RuntimeError: the engine cannot be built.
    """
    if config.kv_bytes is None:
        raise ConfigError("--kv-cache-memory: is required; what --memory leaves is not the same in each run of a sweep")

    def run(seqs: int) -> Point:
        progress(seqs)
        return _run(config, seqs, input_len, output_len)

    half = min(MOST_SEQS, max(1, _whole(config, input_len + output_len) // 2))
    return Sweep(_rising(run, half), planned(config, input_len, output_len))


def _rising(run: Callable[[int], Point], begin: int) -> tuple[Point, ...]:
    """Runs with ever more let in, from ``begin`` on; from half of it, and so on, where that is too many."""
    first = run(begin)
    while not first.holds and begin > 1:
        begin //= 2
        first = run(begin)
    points, seqs = [first], begin
    while any(point.holds for point in points[-_MISSES:]):
        seqs += max(1, seqs // 16)
        if seqs > MOST_SEQS:
            break
        points.append(run(seqs))
    return tuple(points)


def planned(config: EngineConfig, input_len: int, output_len: int) -> int:
    """What the planner says runs at once; 0 if not even one fits. What steps take plays no part in it."""
    assert config.kv_bytes is not None, "looked at before"
    names = ("max_num_batched_tokens", "block_size", "pipeline_depth")
    settings = {name: getattr(config, name) for name in names}
    machine = machine_for(config.kv_bytes)
    engine = Simulated(_geometry(config), machine, config.kv_bytes, settings)
    prober = Prober(of_one_length(input_len, output_len, _WAVES * MOST_SEQS))
    found = most_clients(prober, engine, _whole(config, input_len + output_len), MOST_SEQS)
    return found[0] if found else 0


def _whole(config: EngineConfig, tokens: int) -> int:
    """Requests of so many tokens that the pool holds whole, about."""
    assert config.kv_bytes is not None, "looked at before"
    return config.kv_bytes // (_geometry(config).kv_bytes_per_token * tokens)


def _geometry(config: EngineConfig) -> Geometry:
    """The model's, in the type that the engine runs it in."""
    geometry = read_geometry(config.model)
    return geometry.run_in(config.dtype)


def _run(config: EngineConfig, seqs: int, input_len: int, output_len: int) -> Point:
    load = Load(max(_FEW, _WAVES * seqs), input_len, output_len)
    watch = Watch()
    engine = watch.engine = build_engine(config.model_copy(update={"max_num_seqs": seqs}), [watch])
    try:
        check_fits(load, engine.ready.max_model_len, LENGTHS)
        start = perf_counter()
        _all_at_once(engine, load)
        seconds = perf_counter() - start
        return Point(seqs, watch.most, engine.scheduler.counters.preemptions / load.requests, load.requests / seconds)
    finally:
        engine.close()


def _all_at_once(engine: Engine, load: Load) -> None:
    """Submit all requests and run until they are over."""
    params = SamplingParams(max_tokens=load.output_len, temperature=0, ignore_eos=True, seed=0)
    prompts = load.prompts(0, engine.ready.vocab_size)
    engine.step([Submit(str(number), prompt, params) for number, prompt in enumerate(prompts)])
    while engine.has_work():
        engine.step()
