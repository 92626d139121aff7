"""The knobs of a workload: a dataclass's fields, each with its bounds and its meaning."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from itertools import islice
from typing import Any, TypeVar

from infergc.sim.draws import MICROS, Draws
from infergc.sim.requests import TraceRequest
from infergc.wording import shown

MOST_LENGTH = 2**20  # tokens
_MOST_SEED = 2**32 - 1
Number = TypeVar("Number", int, float)


class WorkloadError(ValueError):
    """A workload that cannot be made; the message names the knob and what it may be."""


def knob(default: Number, least: Number, most: Number, meaning: str) -> Number:
    """A field of a workload, from ``least`` to ``most``."""
    made: Any = field(default=default, metadata={"least": least, "most": most, "meaning": meaning})
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Workload(ABC):
    """What all workloads have. The same knobs give the same requests, on every machine and in every Python.

    Lengths vary: of each, ``spread`` is exponential and the rest is fixed, so that their mean is what its knob
    says; what is beyond eight times the mean, or has no room in the context, is cut.

    Raises:
        WorkloadError: a knob is out of bounds.
    """

    requests: int = knob(500, 1, 100_000, "requests in all")
    rate: float = knob(1.0, 1e-6, 1e6, "requests a second, by a Poisson process")
    seed: int = knob(0, 0, _MOST_SEED, "of everything that is drawn")
    context: int = knob(8192, 64, MOST_LENGTH, "tokens, the most that a prompt and its output have together")
    spread: float = knob(1.0, 0.0, 1.0, "of lengths: 0 for always the mean, 1 for exponential")

    def __post_init__(self) -> None:
        for one in fields(self):
            _check(one, getattr(self, one.name))

    @abstractmethod
    def generate(self) -> list[TraceRequest]:
        """The requests, by arrival. Cost: O(blocks of all prompts)."""

    def arrivals(self, draws: Draws) -> Iterator[float]:
        """Seconds at which requests come that do not depend on each other."""
        return (micros / MICROS for micros in islice(draws.starts(self.rate), self.requests))

    def length(self, draws: Draws, mean: int, most: int) -> int:
        """Tokens of something that has ``mean`` on the average: at least 1, at most ``most``."""
        drawn = mean * (1 - self.spread) + draws.exponential(mean * self.spread)
        return max(1, min(round(drawn), 8 * mean, most))


def _check(one: "Field[Any]", value: object) -> None:
    least, most = one.metadata["least"], one.metadata["most"]
    whole = one.type in {int, "int"}
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not (right and least <= value <= most):
        kind = "a whole number" if whole else "a number"
        raise WorkloadError(f"{one.name}: {shown(value)} is not allowed; it must be {kind} from {least} to {most}")
