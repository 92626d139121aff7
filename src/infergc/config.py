"""The engine's configuration: one frozen chain, each field with its unit, bounds and flag.

A field ``kv_cache_memory`` is the flag ``--kv-cache-memory`` of every command that builds an engine, and
the keyword ``kv_cache_memory=`` of ``LLM``; errors name it.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from infergc.units import GIB, MIB, parse_bytes
from infergc.wording import fault

PAGE_SIZES = (8, 16, 32, 64)
DEFAULT_KV_CACHE_MEMORY = GIB // 2
STAGING = 256 * MIB  # of the host tier, where there is a disk tier and nothing else was said
HEEDING = ("generational", "lru", "priority", "ttl")  # retention policies that heed priorities and times of requests
ELSEWHERE = {"gpu_memory_utilization": "kv_cache_memory"}  # a setting of other engines → the nearest of ours

MOST_PAGES = 1 << 30  # that any count of births waits for: page numbers are of 32 bits
MOST_STEPS = 1 << 24  # that an age lasts: days

Bytes = Annotated[int, BeforeValidator(lambda v: parse_bytes(v) if isinstance(v, str) else v)]


def _named(path: Any) -> Any:
    if path == "":
        raise ValueError("takes a directory's path, and this one is empty")
    return path


Directory = Annotated[Path, BeforeValidator(_named)]


class ConfigError(ValueError):
    """A setting is not allowed; the message names the flag and says what is."""


class EngineConfig(BaseModel):
    """Everything that shapes an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: Path = Field(description="Directory of a Hugging Face model: config.json, tokenizer.json, *.safetensors.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="Type of weights, activations and KV. auto: the checkpoint's, but float32 for float16.",
    )
    max_model_len: int | None = Field(
        None,
        ge=1,
        description="Longest prompt plus output, in tokens. Default: the model's context, "
        "or what the KV memory holds if that is less.",
    )
    memory: Bytes | None = Field(
        None,
        ge=1,
        description="All memory of the engine's process: libraries, weights, activations, and what is left is for "
        "KV. 2GiB and 800MiB are understood. Not together with --kv-cache-memory.",
    )
    kv_cache_memory: Bytes | None = Field(
        None, ge=1, description="Memory for KV alone. Default: what --memory leaves, and 512MiB without it."
    )
    kv_cache_dtype: Literal["auto"] = Field("auto", description="Type of KV. auto: the model's; there is no other yet.")
    host_cache_memory: Bytes | None = Field(
        None,
        ge=1,
        description="Memory of the host tier, beside that for KV: pages that have to leave that are kept here. Part of "
        "--memory where that is given. Default: none, or 256MiB with --disk-cache-dir.",
    )
    disk_cache_dir: Directory | None = Field(
        None,
        description="Directory of the disk tier: KV of prompts is written there and outlives the engine. Servers may "
        "share it. Default: no disk tier.",
    )
    disk_cache_size: Bytes = Field(10 * GIB, ge=1, description="Most bytes that the files of the disk tier take.")
    preemption: Literal["auto", "swap", "recompute"] = Field(
        "auto",
        description="What becomes of the KV of a request that has to give way: kept in the host tier, computed again, "
        "or what is estimated to be sooner.",
    )
    tiering_policy: Literal["sooner", "always"] = Field(
        "sooner",
        description="Which of what a prompt finds in the tiers below is loaded from there: what is estimated to take "
        "clearly less time than to compute it, or all.",
    )
    block_size: int = Field(16, description="Tokens in a page: 8, 16, 32 or 64.")
    enable_prefix_caching: bool = Field(True, description="Keep finished prefixes for reuse.")
    max_num_seqs: int = Field(64, ge=1, le=4096, description="Most sequences in one step.")
    max_num_batched_tokens: int = Field(
        512,
        ge=1,
        le=1 << 20,
        description="Most tokens computed in one step, prompt chunks and decodes together.",
    )
    scheduling_policy: Literal["fcfs", "priority", "shortest-first", "cache-aware"] = Field(
        "fcfs",
        description="Order of waiting requests: first come first served, by the request's priority, the shortest "
        "prompt first, or the one first of which most is cached; see docs/scheduling.md.",
    )
    admission_policy: Literal["learned", "page-each"] = Field(
        "learned",
        description="What must be free before a request starts beside others: what requests were seen to grow by, or "
        "a page for each that runs.",
    )
    retention_policy: Literal["generational", "lru", "lfu", "slru", "arc", "s3-fifo", "tinylfu", "priority", "ttl"] = (
        Field("generational", description="Which cached pages stay when memory runs short.")
    )
    pin_budget: float = Field(
        0.1, ge=0, le=1, description="Share of pages that pinned prompts may hold; see docs/cache-control.md."
    )
    compaction: bool = Field(True, description="Move the pages of sparse superblocks together as requests come and go.")
    compaction_budget: int = Field(
        80, ge=1, le=1 << 20, description="Most that compaction adds to a step: pages moved, references rewritten."
    )
    pipeline_depth: int = Field(2, ge=1, le=2, description="Steps in flight: at 2, a step is planned while one runs.")
    gc: Literal["on", "off"] = Field(
        "on",
        description="The collector: cycles, generations, leaks. off: reference counts alone, for experiments; "
        "cancelled beam searches and deleted sessions then leak.",
    )
    gc_step_us: float = Field(50.0, ge=1, le=1e6, description="Collector time between two steps, in microseconds.")
    gc_idle_us: float = Field(1000.0, ge=1, le=1e6, description="Collector time at once when nothing runs.")
    gc_minor_pages: int = Field(
        256, ge=1, le=MOST_PAGES, description="Pages born in the prefix cache from one minor collection on."
    )
    gc_major_pages: int = Field(
        16384, ge=1, le=MOST_PAGES, description="Pages given to requests from one major collection on."
    )
    gc_watermark: float = Field(
        0.9, ge=0, le=1, description="Share of pages held by requests above which collections come twice as often."
    )
    gc_target_free: float = Field(
        0.0, ge=0, le=1, description="Share of pages to keep free, by giving up cached ones between steps."
    )
    gc_young_steps: int = Field(
        256, ge=1, le=MOST_STEPS, description="Steps until a young cached prefix survives, if it was used."
    )
    gc_survivor_steps: int = Field(
        512, ge=1, le=MOST_STEPS, description="Steps until a survivor is tenured, or young again."
    )
    gc_tenured_steps: int = Field(
        1024, ge=1, le=MOST_STEPS, description="Steps until a tenured prefix unused is a survivor again."
    )
    max_sessions: int = Field(1024, ge=1, le=1 << 20, description="Most open sessions; the oldest goes beyond that.")
    attention_backend: Literal["auto", "triton", "cpu", "reference"] = Field(
        "auto", description="Attention kernels; auto takes the fastest that can run here."
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads for the model; 0 means all cores.")
    deterministic: bool = Field(
        False,
        description="Same seed, same tokens, whatever else is in the batch, or no start; see docs/determinism.md.",
    )
    heap_debug: bool = Field(
        False,
        description="Poison freed KV pages and guard storage, so that a wrong read or write fails its step by name. "
        "Slower, and all KV memory is taken at start; see docs/memory.md.",
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Seeds the draw of seeds for requests that bring none.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What the engine's process logs on standard error, from this level up."
    )
    executor: str = Field(
        "infergc.worker.factory:create_executor",
        description="Dotted path of the function that builds the executor from this configuration.",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_memory(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """One of the two budgets is set and the other is None."""
        if settings.get("memory") is None and settings.get("kv_cache_memory") is None:
            return {**settings, "kv_cache_memory": DEFAULT_KV_CACHE_MEMORY}
        return settings

    @model_validator(mode="after")
    def _check_memory(self) -> "EngineConfig":
        if self.memory is not None and self.kv_cache_memory is not None:
            raise ValueError(
                "memory: give either --memory, for the whole engine, or --kv-cache-memory, for KV alone; not both"
            )
        return self

    @model_validator(mode="after")
    def _check_tiers(self) -> "EngineConfig":
        if not self.enable_prefix_caching:
            for name in ("host_cache_memory", "disk_cache_dir"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: tiers keep cached prefixes; this needs --enable-prefix-caching")
        size = EngineConfig.model_fields["disk_cache_size"].default
        if self.disk_cache_dir is None and self.disk_cache_size != size:
            raise ValueError("disk_cache_size: there is no disk tier to bound; give it a directory by --disk-cache-dir")
        if self.preemption == "swap" and self.host_bytes == 0:
            raise ValueError("preemption: swap keeps KV in the host tier; give it memory by --host-cache-memory")
        if self.tiering_policy != "sooner" and self.host_bytes == 0:
            raise ValueError("tiering_policy: there are no tiers to load from; add --host-cache-memory")
        return self

    @property
    def host_bytes(self) -> int:
        """Memory of the host tier: what was given, else what reading and writing a disk tier needs."""
        if self.host_cache_memory is not None:
            return self.host_cache_memory
        return STAGING if self.disk_cache_dir is not None else 0

    @property
    def host_part(self) -> dict[str, int]:
        """Memory of the host tier as a part of a ledger; none where there is no such tier."""
        return {"host cache": self.host_bytes} if self.host_bytes else {}

    @model_validator(mode="after")
    def _check_pages(self) -> "EngineConfig":
        if self.block_size not in PAGE_SIZES:
            raise ValueError(f"block_size: {self.block_size} is not one of {', '.join(map(str, PAGE_SIZES))}")
        return self


def engine_config(**settings: Any) -> EngineConfig:
    """Build a configuration.

    Raises:
        ConfigError: naming each flag that is wrong and what is allowed, and each setting that does not exist.
    """
    try:
        return EngineConfig(**settings)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from None


def flag(field: str) -> str:
    """The command-line spelling of a field."""
    return "--" + field.replace("_", "-")


def _explain(problem: Mapping[str, Any]) -> str:
    if not problem["loc"]:  # of the model as a whole: the message names the field
        name, _, rest = fault(problem).partition(":")
        return f"{flag(name)}:{rest}"
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return _unknown(name)
    return f"{flag(name)}: {fault(problem, EngineConfig.model_fields[name].metadata)}"


def _unknown(name: str) -> str:
    """Only Python can name a setting that there is not, so it is spelled as there."""
    near = [ELSEWHERE[name]] if name in ELSEWHERE else get_close_matches(name, EngineConfig.model_fields, 1)
    return f"{name}: no such setting" + "".join(f"; did you mean {other}?" for other in near)
