"""Options of every command that builds an engine: one for each field of ``EngineConfig``, with its own words."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from infergc.cli.grouped import option
from infergc.config import EngineConfig, flag
from infergc.units import format_bytes

HEADINGS = {  # heading → fields; a field that is in none stands under the last
    "Model": ("dtype", "max_model_len", "attention_backend", "device", "enforce_eager", "threads"),
    "Memory": (
        "memory",
        "kv_cache_memory",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "host_cache_memory",
        "disk_cache_dir",
        "disk_cache_size",
        "tiering_policy",
        "block_size",
        "enable_prefix_caching",
        "retention_policy",
        "pin_budget",
        "compaction",
        "compaction_budget",
    ),
    "Scheduling": (
        "max_num_seqs",
        "max_num_batched_tokens",
        "scheduling_policy",
        "admission_policy",
        "preemption",
        "pipeline_depth",
    ),
    "Collector": (
        "gc",
        "gc_step_us",
        "gc_idle_us",
        "gc_minor_pages",
        "gc_major_pages",
        "gc_watermark",
        "gc_target_free",
        "gc_young_steps",
        "gc_survivor_steps",
        "gc_tenured_steps",
        "max_sessions",
    ),
    "Repeatability": ("deterministic", "seed"),
    "Development": ("log_level", "executor", "heap_debug"),
}
_IN_BYTES = frozenset({"memory", "kv_cache_memory", "host_cache_memory", "disk_cache_size"})
_PATHS = frozenset({"disk_cache_dir"})

_Function = TypeVar("_Function", bound=Callable[..., Any])


def engine_options(function: _Function) -> _Function:
    """Decorate a command with the engine's options; they arrive as keyword arguments named as the fields."""
    return some_engine_options(*(name for name in EngineConfig.model_fields if name != "model"))(function)


def some_engine_options(*names: str, **defaults: Any) -> Callable[[_Function], _Function]:
    """Decorate a command with the engine's options for these fields alone.

    Args:
        names: of the fields.
        defaults: of those whose default is not to be the configuration's.
    """
    order = sorted(names, key=lambda name: list(HEADINGS).index(_heading(name)))

    def decorate(function: _Function) -> _Function:
        for name in reversed(order):
            field = EngineConfig.model_fields[name]
            function = _option(name, field, defaults.get(name, field.default))(function)
        return function

    return decorate


def _heading(name: str) -> str:
    return next((heading for heading, names in HEADINGS.items() if name in names), list(HEADINGS)[-1])


def _option(name: str, field: FieldInfo, default: Any) -> Callable[[_Function], _Function]:
    help_text = field.description or ""
    if field.annotation is bool:
        both = f"{flag(name)}/{flag('no_' + name)}"
        return option(_heading(name), both, name, default=default, help=help_text)
    if get_origin(field.annotation) is Literal:
        choice = click.Choice(get_args(field.annotation))
        return option(_heading(name), flag(name), name, type=choice, default=default, help=help_text)
    if name in _IN_BYTES:  # the configuration reads sizes itself
        default = default if default is None else format_bytes(default).replace(" ", "")
        return option(_heading(name), flag(name), name, metavar="BYTES", default=default, help=help_text)
    if name in _PATHS:  # as it was written: the configuration tells an empty one from the folder one stands in
        return option(_heading(name), flag(name), name, metavar="PATH", default=default, help=help_text)
    kind = field.annotation if field.annotation in (str, float) else int  # bounds are the configuration's to check
    return option(_heading(name), flag(name), name, type=kind, default=default, help=help_text)
