"""The backends by name, imported only when asked for, and the choice among them."""

import logging
from importlib import import_module
from typing import Any

from infergc.config import ConfigError
from infergc.kernels.api import AttentionBackend, AttentionNeeds

_log = logging.getLogger(__name__)

# name → "module:class", fastest first: the order that `auto` tries. Every class has `capabilities` (what it
# takes), `unavailable()` (why it cannot run on this machine), and is made from (needs, threads).
BACKENDS = {
    "cpu": "infergc.kernels.cpu.backend:CpuAttention",
    "reference": "infergc.kernels.reference:ReferenceAttention",
}


def create_attention(name: str, needs: AttentionNeeds, threads: int = 0) -> AttentionBackend:
    """Make a backend.

    Args:
        name: one of BACKENDS, or "auto" for the first that can run; it warns when that is the slow reference.
        needs: what the model asks of it.
        threads: CPU threads, 0 for all cores.

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


def _first_usable(needs: AttentionNeeds, threads: int) -> AttentionBackend:
    refusals = []
    for name in BACKENDS:
        backend = _load(name)
        if reason := _refusal(backend, needs):
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


def _make(backend: Any, needs: AttentionNeeds, threads: int) -> AttentionBackend:
    made: AttentionBackend = backend(needs, threads)
    return made
