"""A census of live tensors as plain data: what an executor answers, and what the engine tells of it."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

_log = logging.getLogger(__name__)

MOST_NAMED = 16  # kinds of tensors told one by one, so that metrics have a bounded number of labels
_KIND = ("dtype", "shape", "device")
_OTHER = ("other", "other", "other")


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """Live tensors that are alike.

    Attributes:
        dtype: as "float32".
        shape: as "8x64"; "scalar" without dimensions.
        device: as "cpu".
        tensors: how many there are.
        bytes: of the memory behind them, counted once where several share it, and not where the model holds it.
        age: steps since the eldest of them was first seen.
        held_by: what refers to one of them, from the inside out: "list of 40 in Cache.kept".
    """

    dtype: str
    shape: str
    device: str
    tensors: int
    bytes: int
    age: int = 0
    held_by: str = ""

    def __str__(self) -> str:
        return f"{self.tensors} tensors {self.dtype} {self.shape} on {self.device}, {self.bytes:,} bytes"


@dataclass(frozen=True, slots=True)
class TensorCensus:
    """One look at the tensors that came after the first look, which saw the model.

    Attributes:
        tensors, bytes: all that live.
        suspects: those of which the old ones became more from look to look: a leak, if nothing bounds them.
        cycles: those that lived at the previous look and are gone, though no step ran between: nothing but a
            reference cycle held them, and the collector broke it.
    """

    tensors: int = 0
    bytes: int = 0
    suspects: tuple[TensorGroup, ...] = ()
    cycles: tuple[TensorGroup, ...] = ()


class TensorNews:
    """What is told of tensors: a warning once for each kind of leak, and figures for metrics.

    Attributes:
        figures: plain data: ``live`` and ``bytes``, ``suspects`` of the latest look, ``cycles`` freed since the
            start, both as lists of groups. Empty before the first look.
    """

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self._cycles: dict[tuple[str, str, str], Counter[str]] = {}
        self._warned: set[tuple[str, str, str, str]] = set()

    def take(self, census: TensorCensus) -> None:
        """Take the news of a look."""
        for group in census.suspects:
            self._warn("tensor leak: %s, the eldest for %d steps; held by %s", group)
        for group in census.cycles:
            self._warn("tensors in reference cycles: %s, the eldest for %d steps; held by %s", group)
            self._add(group)
        self.figures = {
            "live": census.tensors,
            "bytes": census.bytes,
            "suspects": [asdict(group) for group in census.suspects],
            "cycles": [{**dict(zip(_KIND, kind, strict=True)), **sums} for kind, sums in self._cycles.items()],
        }

    def _add(self, group: TensorGroup) -> None:
        kind = (group.dtype, group.shape, group.device)
        if kind not in self._cycles and len(self._cycles) >= MOST_NAMED:
            kind = _OTHER
        self._cycles.setdefault(kind, Counter()).update(tensors=group.tensors, bytes=group.bytes)

    def _warn(self, text: str, group: TensorGroup) -> None:
        kind = (text, group.dtype, group.shape, group.device)
        if kind not in self._warned and len(self._warned) < 2 * MOST_NAMED:
            self._warned.add(kind)
            _log.warning(text, group, group.age, group.held_by)


def largest(groups: Iterable[TensorGroup]) -> tuple[TensorGroup, ...]:
    """The groups to be named: those of the most bytes, then of the most tensors."""
    ordered = sorted(groups, key=lambda group: (-group.bytes, -group.tensors, group.dtype, group.shape, group.device))
    return tuple(ordered[:MOST_NAMED])
