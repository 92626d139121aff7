"""From what a command line says to a question."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from infergc.config import ConfigError
from infergc.planner.load import Load, at_most, load_named, of_one_length
from infergc.planner.machine import Machine, machine_for, machine_named
from infergc.planner.memory import memory_of
from infergc.planner.plan import Question
from infergc.planner.probe import MOST_SEQS
from infergc.planner.targets import Targets
from infergc.sim.catalog import MODELS, geometry_named
from infergc.sim.geometry import Geometry
from infergc.sim.simulate import MAX_NUM_BATCHED_TOKENS
from infergc.units import format_bytes

_CALIBRATED_TOKENS = 512  # of a step, as the engine is run unless told otherwise
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
    geometry = geometry_named(model).run_in(dtype or "auto")
    machine = _machine(geometry, device, memory, kv_cache_memory)
    steps = MAX_NUM_BATCHED_TOKENS if machine.device else _CALIBRATED_TOKENS
    settings: dict[str, Any] = {"max_num_batched_tokens": max_num_batched_tokens or steps}
    if dtype is not None:
        settings["dtype"] = dtype
    if block_size is not None:
        settings["block_size"] = int(block_size)
    return Question(
        model=geometry,
        served_as=model if Path(model).is_dir() and model.lower() not in MODELS else "MODEL_DIR",
        machine=machine,
        memory=memory_of(geometry, machine, memory, kv_cache_memory),
        load=_load(geometry, input_len, output_len, trace),
        targets=Targets(ttft, tpot),
        settings=settings,
    )


def _machine(model: Geometry, device: str | None, memory: int | None, kv: int | None) -> Machine:
    if memory is not None and kv is not None:
        raise ConfigError("--memory: give either --memory, for the whole device, or --kv-cache-memory, for KV alone")
    if device is None:
        if memory is None and kv is None:
            raise ConfigError("--memory: is required unless --device says how much there is")
        return machine_for(memory or model.weight_bytes + (kv or 0))
    machine = machine_named(device, model)
    if machine.device is not None and (memory or 0) > 1.1 * machine.device.memory:
        raise ConfigError(
            f"--memory: {format_bytes(memory or 0)} are more than {machine.name} has, "
            f"{format_bytes(machine.device.memory)}; plans are for one device"
        )
    return machine


def _load(model: Geometry, input_len: int | None, output_len: int | None, trace: str | None) -> Load:
    if trace is not None:
        load = at_most(load_named(trace), model.max_len)
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
