"""From what a command line says to a question."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from infergc.config import ConfigError, EngineConfig
from infergc.planner.load import Load, affordable, at_most, load_named, of_one_length
from infergc.planner.machine import Machine, machine_for, machine_named
from infergc.planner.memory import memory_of, pool_pages
from infergc.planner.plan import Question
from infergc.planner.probe import MOST_SEQS
from infergc.planner.targets import Targets
from infergc.sim.catalog import MODELS, geometry_named
from infergc.sim.geometry import Geometry
from infergc.sim.simulate import MAX_NUM_BATCHED_TOKENS
from infergc.units import ceil_div, format_bytes

_CALIBRATED_TOKENS = 512  # of a step, as the engine is run unless told otherwise
_OVER = 1.1  # times the memory of a data sheet: GiB or GB
_STEPS = 128  # of a request in a simulation, at most
_ALIKE = 6 * MOST_SEQS  # requests of one length: twice as many as the largest run takes


def question(
    model: str,
    memory: int | None = None,
    kv_cache_memory: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    input_len: int | None = None,
    output_len: int | None = None,
    trace: str | None = None,
    ttft: float | None = None,
    tpot: float | None = None,
    max_num_batched_tokens: int | None = None,
    block_size: str | None = None,
) -> Question:
    """The question that the options of ``infergc plan`` ask.

    Raises:
        ConfigError: naming the flag and what is allowed.
        ValueError: a trace or a workload cannot be read.
    """
    _not_empty(model=model, device=device, trace=trace)
    geometry = geometry_named(model).run_in(dtype or "auto")
    machine = _machine(geometry, device, memory, kv_cache_memory)
    there = memory_of(geometry, machine, memory, kv_cache_memory)
    block = int(block_size or EngineConfig.model_fields["block_size"].default)
    load = _load(geometry, pool_pages(geometry, there, block) * block, input_len, output_len, trace)
    steps = MAX_NUM_BATCHED_TOKENS if machine.device else _CALIBRATED_TOKENS
    settings: dict[str, Any] = {"max_num_batched_tokens": _checked(max_num_batched_tokens or steps, load)}
    if dtype is not None:
        settings["dtype"] = dtype
    if block_size is not None:
        settings["block_size"] = block
    return Question(
        model=geometry,
        served_as=model if Path(model).is_dir() and model.lower() not in MODELS else "MODEL_DIR",
        machine=machine,
        memory=there,
        load=load,
        targets=Targets(ttft, tpot),
        settings=settings,
    )


def _machine(model: Geometry, device: str | None, memory: int | None, kv: int | None) -> Machine:
    if memory is not None and kv is not None:
        raise ConfigError("--memory: give either --memory, for the whole device, or --kv-cache-memory, for KV alone")
    if device is None:
        if memory is None and kv is None:
            raise ConfigError("--memory: is required unless --device says how much there is")
        return machine_for(memory) if memory else machine_for(model.weight_bytes + (kv or 0), "--kv-cache-memory")
    machine = machine_named(device, model)
    there = machine.device.memory if machine.device else 0
    if there and (memory or 0) > _OVER * there:
        raise ConfigError(
            f"--memory: {format_bytes(memory or 0)} are more than {machine.name} has, {format_bytes(there)}; plans are "
            "for one device"
        )
    if there and kv is not None and model.weight_bytes + kv > _OVER * there:
        raise ConfigError(
            f"--kv-cache-memory: {format_bytes(kv)} and the weights of {model.name}, "
            f"{format_bytes(model.weight_bytes)}, are more than {machine.name} has, {format_bytes(there)}"
        )
    return machine


def _not_empty(**given: str | None) -> None:
    for name, value in given.items():
        if value == "":
            raise ConfigError(f'--{name}: "" is not allowed; write a name or a file, or leave the flag out')


def _checked(tokens: int, load: Load) -> int:
    """Tokens of a step with which a plan takes minutes, not an hour."""
    mean = int(load.lengths.mean())
    least = ceil_div(mean, _STEPS)
    if tokens < least:
        raise ConfigError(
            f"--max-num-batched-tokens: {tokens} is too few to simulate requests of {mean:,} tokens on the average; "
            f"it must be ≥ {least}, so that each takes {_STEPS} steps at most"
        )
    return tokens


def _load(model: Geometry, pool: int, input_len: int | None, output_len: int | None, trace: str | None) -> Load:
    """Of a trace, what an engine takes: it refuses what is over the context, or over what the pool holds."""
    if trace is not None:
        load = affordable(at_most(load_named(trace), min(model.max_len, pool)))
        unused = " (--input and --output are not used: a trace has its own lengths)" if input_len or output_len else ""
        return replace(load, words=load.words + unused)
    for flag, given in (("--input", input_len), ("--output", output_len)):
        if given is None:
            raise ConfigError(f"{flag}: is required unless --trace says what comes")
    assert input_len is not None, "checked above"
    assert output_len is not None, "checked above"
    if input_len + output_len > model.max_len:
        raise ConfigError(
            f"--input: {input_len} tokens and --output {output_len} are over the context of {model.name}, "
            f"{model.max_len} tokens together"
        )
    return of_one_length(input_len, output_len, _ALIKE)
