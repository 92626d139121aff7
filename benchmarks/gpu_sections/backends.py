"""The attention backends that are measured, and why one cannot be."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from infergc.bench.gpu.figure import absence
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.registry import BACKENDS


@dataclass(frozen=True)
class Candidate:
    """A backend for a GPU.

    Attributes:
        name: in the registry.
        absent: why it cannot run here; "" if it can.
        kind: its class; None where it cannot run.
    """

    name: str
    absent: str
    kind: Any = None

    def refuses(self, needs: AttentionNeeds) -> bool:
        """Whether it does not take such a model."""
        return bool(self.kind.capabilities.refusal(needs))

    def make(self, needs: AttentionNeeds) -> Any:
        """The backend."""
        return self.kind(needs, None)


def candidate(name: str) -> Candidate:
    """One that is known; if it cannot run, with the reason that it gives."""
    if name not in BACKENDS:
        return Candidate(name, "there is no such backend in the registry")
    module, _, attribute = BACKENDS[name].partition(":")
    try:
        kind = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        return Candidate(name, absence(error))
    reason = kind.unavailable()
    return Candidate(name, reason or "", None if reason else kind)
