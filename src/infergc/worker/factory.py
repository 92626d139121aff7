"""Building the executor from the engine's configuration."""

import logging
import os
import sys
from dataclasses import replace

import torch

from infergc.config import ConfigError, EngineConfig, flag
from infergc.engine.ports import ModelFacts
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.cpu.dense import CpuOps
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.registry import create_attention, create_gpu_ops, create_ops
from infergc.models.decoder import Decoder
from infergc.models.weights import nbytes
from infergc.worker.debug.guarded import GuardedStorage
from infergc.worker.devices.cuda_device import CudaDevice
from infergc.worker.devices.device import Device, HostDevice
from infergc.worker.disk_link import DiskPlace
from infergc.worker.executor import TorchExecutor
from infergc.worker.loading.dtypes import name
from infergc.worker.loading.loader import ModelSource, load_weights, open_model
from infergc.worker.memory.storage import LayerGroups, layer_groups
from infergc.worker.startup.gpu_ledger import GpuLedger
from infergc.worker.startup.ledger import Ledger, check_fits, check_holds, check_host_cache
from infergc.worker.startup.rehearsal import Rehearsal

_PIECES_A_THREAD = 4  # into which attention cuts the work of long rows
_CPUS_OWN = ("deterministic", "heap_debug")  # settings that cannot be kept on a GPU
_GPUS_OWN = ("gpu_memory_utilization", "enforce_eager")  # settings that nothing on a CPU asks for

_LOG = logging.getLogger(__name__)


def create_executor(config: EngineConfig) -> TorchExecutor:
    """Load the model, set up its executor and measure what both take; sets torch's threads for the process.

    Raises:
        ModelError: the model directory cannot be used.
        ConfigError: the device, memory or threads asked for are not there, or a setting cannot be kept on it.
    """
    if config.disk_cache_dir is not None and config.disk_cache_dir.is_file():
        raise ConfigError(
            f"--disk-cache-dir: {config.disk_cache_dir} is a file; give a directory, which is made if need be"
        )
    executor = _on_gpu(config) if wants_gpu(config) else _on_host(config)
    executor.model_dir = config.model
    if config.disk_cache_dir is not None:
        executor.disk = DiskPlace(config.disk_cache_dir, config.disk_cache_size)
    return executor


def wants_gpu(config: EngineConfig) -> bool:
    """Whether the model is to run on a GPU.

    Raises:
        ConfigError: it is asked for, and there is none, or another setting needs the host.
    """
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return False
    if not torch.cuda.is_available():
        built = "for the CPU" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
        raise ConfigError(f"--device: torch, built {built}, finds no NVIDIA GPU here; cpu and auto run on the host")
    for setting in _CPUS_OWN:
        if getattr(config, setting):
            raise ConfigError(f"{flag(setting)}: is kept on the CPU alone; add --device cpu")
    return True


def _on_host(config: EngineConfig) -> TorchExecutor:
    for setting in _GPUS_OWN:
        if getattr(config, setting) != EngineConfig.model_fields[setting].default:
            _LOG.warning("%s does nothing here: the model runs on the CPU", flag(setting))
    threads = _threads(config)
    source = open_model(config.model, config.dtype)
    _warm_up(source.spec.dtype)
    ledger = Ledger()
    least = nbytes(source.spec)
    sure = {**ledger.entries, **config.host_part, "weights": least}
    check_fits(config, sure)  # before gigabytes are read
    check_holds(config, sure)
    ops = create_ops(source.spec.dtype, threads, deterministic=config.deterministic)
    torch.set_num_threads(1 if isinstance(ops, CpuOps) else threads.count)  # or its threads wait for work on our cores
    decoder = Decoder(source.spec, load_weights(source, progress=sys.stderr.isatty()), ops)
    ledger.weights_loaded(least)
    executor = _executor(config, source, decoder, threads, HostDevice())
    longest = _longest(config, executor.facts)
    # Of that many alike the work of one row and head is still more than a piece: see make_schedule in plan.hpp.
    lone_rows = max(1, (_PIECES_A_THREAD * threads.count - 1) // source.spec.num_kv_heads)
    ledger.rehearse(executor, _rehearsal(config, longest, lone_rows))
    ledger.book_texts(config.max_num_seqs, longest)
    check_fits(config, {**ledger.entries, **config.host_part})
    executor.facts = replace(executor.facts, memory=ledger.entries)
    if config.heap_debug:  # from here on: a rehearsal reads pages that nobody wrote
        executor.storage = GuardedStorage
    return executor


def _on_gpu(config: EngineConfig) -> TorchExecutor:
    check_host_cache(config)
    device = CudaDevice(records=not config.enforce_eager)
    source = open_model(config.model, config.dtype)
    ledger, least = GpuLedger(), nbytes(source.spec)
    ledger.check_fits(config, least)  # before gigabytes are read
    weights = load_weights(source, device.place, progress=sys.stderr.isatty())
    decoder = Decoder(source.spec, weights, create_gpu_ops())
    ledger.weights_loaded()
    executor = _executor(config, source, decoder, CpuThreads(1), device)
    executor.facts = replace(executor.facts, granted=int(ledger.total * config.gpu_memory_utilization))
    longest = _longest(config, executor.facts)
    ledger.rehearse(executor, _rehearsal(config, longest, config.max_num_seqs))
    executor.facts = replace(executor.facts, memory=ledger.entries)
    return executor


def _threads(config: EngineConfig) -> CpuThreads:
    """Threads wait for each other at every layer: with less than a core for each, the engine would seem to hang."""
    cores = len(os.sched_getaffinity(0))
    if config.threads > cores:
        raise ConfigError(f"--threads: {config.threads} are more than the cores that this process may use, {cores}")
    return CpuThreads(config.threads)


def _warm_up(dtype: torch.dtype) -> None:
    """Have the libraries set up what they set up once: threads, dispatch, buffers."""
    x = torch.ones(64, 64, dtype=dtype)
    torch.nn.functional.linear(x, x)


def _executor(
    config: EngineConfig, source: ModelSource, decoder: Decoder, threads: CpuThreads, device: Device
) -> TorchExecutor:
    groups = layer_groups(source.spec, config.block_size)
    needs = AttentionNeeds(
        device=device.place.type,
        dtype=source.spec.dtype,
        num_heads=source.spec.num_heads,
        num_kv_heads=source.spec.num_kv_heads,
        head_dim=source.spec.head_dim,
        page_tokens=config.block_size,
    )
    return TorchExecutor(
        decoder=decoder,
        facts=_facts(source, groups),
        groups=groups,
        attention=create_attention(config.attention_backend, needs, threads),
        page_tokens=config.block_size,
        device=device,
    )


def _facts(source: ModelSource, groups: LayerGroups) -> ModelFacts:
    return ModelFacts(
        digest=source.digest,
        vocab_size=source.spec.vocab_size,
        eos_ids=source.eos_ids,
        max_len=source.spec.max_len,
        groups=groups.specs,
        dtype=name(source.spec.dtype),
    )


def _longest(config: EngineConfig, facts: ModelFacts) -> int:
    """No text gets longer: the model's context, ``--max-model-len``, and what the memory holds were it all KV."""
    whole_context = sum(group.page_bytes for group in facts.groups if group.window is None)
    memory = config.memory or config.kv_cache_memory or facts.granted or config.kv_bytes
    holds = memory // whole_context * config.block_size if memory and whole_context else facts.max_len
    return max(1, min(facts.max_len, config.max_model_len or facts.max_len, holds))


def _rehearsal(config: EngineConfig, longest: int, lone_rows: int) -> Rehearsal:
    return Rehearsal(
        tokens=config.max_num_batched_tokens,
        slots=config.max_num_seqs,
        longest=longest,
        page_tokens=config.block_size,
        lone_rows=lone_rows,
    )
