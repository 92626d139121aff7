"""The attention backends that are measured, and why others cannot be."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from infergc.kernels.api import AttentionBackend, AttentionNeeds
from infergc.kernels.registry import BACKENDS

NAMES = ("triton", "flashinfer")
NO_BITS = frozenset({"flashinfer"})  # whose bits depend on the rows beside a token, as its library chooses


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

    def make(self, needs: AttentionNeeds) -> AttentionBackend | None:
        """The backend; None if it does not take such a model."""
        return None if self.kind.capabilities.refusal(needs) else self.kind(needs, None)


def candidates() -> list[Candidate]:
    """All that are known, those that cannot run with the reason that they give."""
    return [_candidate(name) for name in NAMES]


def _candidate(name: str) -> Candidate:
    if name not in BACKENDS:
        return Candidate(name, "there is no such backend in the registry")
    module, _, attribute = BACKENDS[name].partition(":")
    try:
        kind = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        return Candidate(name, f"{error.name} is not installed")
    reason = kind.unavailable()
    return Candidate(name, reason or "", None if reason else kind)
