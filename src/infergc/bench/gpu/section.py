"""What a section of the GPU benchmark is: something that measures, one figure after the other, while it has time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

from infergc.bench.gpu.figure import Figure


@dataclass(frozen=True, slots=True)
class Setting:
    """What a section is given.

    Attributes:
        device: ``cuda``, or ``cpu`` to try the program itself.
        quick: tiny sizes, whose figures mean nothing.
        scratch: a folder that all sections of a run share; model directories are written there once.
        ends: when its time is over, by ``time.monotonic``.
        traces: directory of recorded traces; None: loads are made.
    """

    device: str
    quick: bool
    scratch: Path
    ends: float
    traces: Path | None = None

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - monotonic()


class Section(Protocol):
    """Measures; each runs in a process of its own.

    It imports what it needs itself: a module that is missing skips it, by the module's name. What it has given before
    it fails, or is stopped because its time is over, stays.
    """

    def __call__(self, setting: Setting) -> Iterator[Figure]:
        """Give figures as they come."""
        ...
