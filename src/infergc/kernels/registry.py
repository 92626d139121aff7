"""The attention backends by name, imported only when asked for, and the choice of what computes."""

import logging
from importlib import import_module
from typing import Any

import torch

from infergc.config import ConfigError
from infergc.kernels.api import AttentionBackend, AttentionNeeds, DenseOps
from infergc.kernels.cpu.dense import CpuOps
from infergc.kernels.cpu.library import LibraryMissingError
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.torch_ops import TorchOps

_log = logging.getLogger(__name__)

# name → "module:class", fastest first: the order that `auto` tries. Every class has `capabilities` (what it
# takes), `unavailable()` (why it cannot run on this machine), and is made from (needs, threads).
BACKENDS = {
    "triton": "infergc.kernels.triton.backend:TritonAttention",
    "cpu": "infergc.kernels.cpu.backend:CpuAttention",
    "reference": "infergc.kernels.reference:ReferenceAttention",
}


def create_attention(name: str, needs: AttentionNeeds, threads: CpuThreads) -> AttentionBackend:
    """Make a backend.

    Args:
        name: one of BACKENDS, or "auto" for the first that can run; it warns when that is the slow reference.
        needs: what the model asks of it.
        threads: for kernels on the CPU.

    Raises:
        ConfigError: the backend is unknown, or cannot run; says why and names the flag.
    """
    if name == "auto":
        return _first_usable(needs, threads)
    if name not in BACKENDS:
        raise ConfigError(f"--attention-backend: {name!r} is not one of auto, {', '.join(BACKENDS)}")
    backend = _load(name)
    if reason := _refusal(backend, needs):
        raise ConfigError(f"--attention-backend: {name} cannot run: {reason}; auto takes one that can")
    return _make(backend, needs, threads)


def create_ops(dtype: torch.dtype, threads: CpuThreads, *, deterministic: bool) -> DenseOps:
    """Choose what computes the dense work of a decoder on this CPU.

    Args:
        dtype: of weights and activations.
        threads: for kernels on the CPU.
        deterministic: a token's bits must not depend on what is computed beside it.

    Raises:
        ConfigError: ``--deterministic`` cannot be kept without the compiled kernels.
    """
    try:
        return CpuOps(dtype, threads)
    except LibraryMissingError as error:
        if deterministic:
            raise ConfigError(f"--deterministic: {error}") from None
        _log.warning("matrix products run in torch, which is slow (%s)", error)
        return TorchOps()


def _first_usable(needs: AttentionNeeds, threads: CpuThreads) -> AttentionBackend:
    refusals = []
    for name in BACKENDS:
        backend = _load(name)
        if reason := _refusal(backend, needs) or _reserve(backend):
            refusals.append(f"{name}: {reason}")
            continue
        if name == "reference":
            _log.warning("attention runs on the torch reference, which is slow (%s)", "; ".join(refusals))
        return _make(backend, needs, threads)
    raise ConfigError(f"--attention-backend: none can run ({'; '.join(refusals)})")


def _load(name: str) -> Any:
    module, _, attribute = BACKENDS[name].partition(":")
    return getattr(import_module(module), attribute)


def _refusal(backend: Any, needs: AttentionNeeds) -> str | None:
    reason: str | None = backend.capabilities.refusal(needs) or backend.unavailable()
    return reason


def _reserve(backend: Any) -> str | None:
    return "only when asked for by name" if backend.capabilities.by_name_only else None


def _make(backend: Any, needs: AttentionNeeds, threads: CpuThreads) -> AttentionBackend:
    made: AttentionBackend = backend(needs, threads)
    return made
