"""Assembly: build an engine from its configuration.

The executor is found by its dotted name, so that nothing on this side of the torch line imports a worker.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TypeVar, cast

from infergc.config import ConfigError, EngineConfig
from infergc.engine.budget import capacities, host_slots, longest_text
from infergc.engine.faults import is_refusal, told
from infergc.engine.loop import Engine
from infergc.engine.messages import Ready
from infergc.engine.pacing import Pacer
from infergc.engine.ports import Executor, ModelFacts, Sink
from infergc.heap.collector import Collector, Triggers
from infergc.heap.compactor import Compaction
from infergc.heap.debug import DebugHeap
from infergc.heap.generations import Ages
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.retention import Retention
from infergc.heap.stats import HeapConfig
from infergc.policies.admission.learned import Learned
from infergc.policies.admission.page_each import PageEach
from infergc.policies.ordering.cache_aware import CacheAware
from infergc.policies.ordering.fcfs import Fcfs
from infergc.policies.ordering.priority import Priority
from infergc.policies.ordering.shortest_first import ShortestFirst
from infergc.policies.preemption.spared import Spared
from infergc.policies.retention.arc import Arc
from infergc.policies.retention.belady import Asked, Belady
from infergc.policies.retention.generational import Generational
from infergc.policies.retention.hinted import Hinted
from infergc.policies.retention.lfu import Lfu
from infergc.policies.retention.lru import Lru
from infergc.policies.retention.priority import Priority as PriorityRetention
from infergc.policies.retention.s3_fifo import S3Fifo
from infergc.policies.retention.slru import Slru
from infergc.policies.retention.tinylfu import TinyLfu
from infergc.policies.retention.ttl import Ttl
from infergc.policies.tiering.always import Always
from infergc.policies.tiering.never import Never
from infergc.policies.tiering.sooner import Sooner
from infergc.sched.fitting import Admission
from infergc.sched.queue import Ordering
from infergc.sched.scheduler import Scheduler
from infergc.sched.seating import SchedulerConfig
from infergc.sched.tier_use import Preferring, TierUse

ORDERINGS: dict[str, Callable[[], Ordering]] = {
    "fcfs": Fcfs,
    "priority": Priority,
    "shortest-first": ShortestFirst,
    "cache-aware": CacheAware,
}
ADMISSIONS: dict[str, Callable[[], Admission]] = {"learned": Learned, "page-each": PageEach}
RETENTIONS: dict[str, Callable[[], Retention]] = {
    "generational": lambda: Hinted(Generational()),
    "lru": lambda: Hinted(Lru()),
    "lfu": Lfu,
    "slru": Slru,
    "arc": Arc,
    "s3-fifo": S3Fifo,
    "tinylfu": TinyLfu,
    "priority": PriorityRetention,
    "ttl": Ttl,
}
SWAPPING: dict[str, Callable[[], Preferring]] = {"auto": Sooner, "swap": Always, "recompute": Never}
LOADING: dict[str, Callable[[], Preferring]] = {"sooner": lambda: Sooner(0.8), "always": Always}
FORESEEING: dict[str, Callable[[Iterable[Asked]], Retention]] = {"belady": Belady}  # no engine has the future

_Made = TypeVar("_Made")

_LESS = (
    "memory was refused at start; less KV (--kv-cache-memory, --memory, --gpu-memory-utilization, --host-cache-memory) "
    "or smaller steps (--max-num-batched-tokens, --max-num-seqs)"
)
LAYOUT = "pages-v1"  # part of the cache namespace: changes when KV of a page is laid out differently


def build_engine(config: EngineConfig, sinks: Iterable[Sink] = ()) -> Engine:
    """Load the model's executor and put an engine around it, see ``around``."""
    return around(config, lambda executor: assemble(config, executor, sinks))


def around(config: EngineConfig, make: Callable[[Executor], _Made]) -> _Made:
    """Load the model's executor, and make something that closes it.

    Raises:
        ConfigError: a setting does not suit the model or the memory, or memory was refused; the message names the flag.
        OSError, ValueError: the model cannot be loaded; the message says why.
    """
    try:
        executor = load_executor(config)
        try:
            return make(executor)
        except BaseException:
            executor.close()
            raise
    except Exception as error:
        if isinstance(error, ConfigError) or not is_refusal(error):
            raise
        raise ConfigError(f"{_LESS} may do: {told(error)}") from error


def load_executor(config: EngineConfig) -> Executor:
    """Call the function that ``config.executor`` names."""
    module, _, function = config.executor.partition(":")
    try:
        create = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"--executor: {config.executor!r} names no function: {error}") from error
    return cast(Executor, create(config))


def assemble(
    config: EngineConfig, executor: Executor, sinks: Iterable[Sink] = (), retention: Retention | None = None
) -> Engine:
    """Put heap, scheduler and loop around an executor that has no storage.

    Args:
        config: of the engine.
        executor: that carries out its plans.
        sinks: that hear of what it does.
        retention: in place of the configuration's policy.
    """
    facts = executor.facts
    groups = capacities(config, facts)
    longest = longest_text(config, facts, groups)
    slots = host_slots(config, facts)
    executor.allocate(groups, config.max_num_seqs, slots)
    ages = Ages(config.gc_young_steps, config.gc_survivor_steps, config.gc_tenured_steps)
    shape = HeapConfig(
        groups, config.block_size, config.max_num_seqs, config.enable_prefix_caching, ages, config.pin_budget,
        slots, config.disk_cache_dir is not None,
    )  # fmt: skip
    compaction = Compaction(config.compaction_budget) if config.compaction else None
    retention = retention or RETENTIONS[config.retention_policy]()
    heap = (DebugHeap if config.heap_debug else Heap)(shape, retention, compaction)
    heap.reclaimer.target_free = config.gc_target_free
    limits = SchedulerConfig(
        config.max_num_seqs, config.max_num_batched_tokens, longest, frozenset(facts.eos_ids), config.max_sessions
    )
    admission = ADMISSIONS[config.admission_policy]()
    scheduler = Scheduler(heap, limits, ORDERINGS[config.scheduling_policy](), Spared(), admission)
    if heap.tiers is not None:
        swaps, loads = SWAPPING[config.preemption](), LOADING[config.tiering_policy]()
        scheduler.tier_use = TierUse(heap, scheduler.times, swaps, loads, config.max_num_batched_tokens)
    collector = Collector(heap, Triggers(config.gc_minor_pages, config.gc_major_pages, config.gc_watermark))
    pacer = Pacer(collector, config.gc_step_us, config.gc_idle_us, on=config.gc == "on")
    namespace = f"{facts.digest}/{facts.dtype}/{LAYOUT}/{config.block_size}"
    ready = _ready(facts, executor.backend, groups, longest, config)
    return Engine(scheduler, executor, ready, namespace, config.pipeline_depth, pacer, sinks)


def _ready(facts: ModelFacts, backend: str, groups: tuple[GroupSpec, ...], longest: int, config: EngineConfig) -> Ready:
    kv = sum(group.capacity * group.page_bytes for group in groups)
    size = config.block_size
    tokens = min(group.capacity for group in groups) * size
    memory = {**facts.memory, "kv": kv, **config.host_part}
    return Ready(
        longest, facts.vocab_size, facts.eos_ids, facts.dtype, backend, memory, tokens,
        page_tokens=size, max_num_seqs=config.max_num_seqs,
    )  # fmt: skip
