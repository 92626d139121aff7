"""A figure of the GPU benchmark, and the bar that it is held against."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

REST = "the rest"  # of a section that ended before its end
NO_TIME = "no time was left"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        what: was measured.
        value: in ``unit``; None where nothing was measured.
        unit: ``%``, ``tok/s``, ``ms``, ``GB/s``, …
        rounds: every measurement, of which the value is the median; empty where it was counted once.
        bar: what is asked for, in the same unit; None where nothing is.
        at_most: the bar is the most that is allowed, else the least.
        note: what else there is to know.
        skipped: why it was not measured.
        failed: what went wrong when it was to run: neither a result nor a difference.
        wrong: how results differ from those of the reference.
    """

    what: str
    value: float | None = None
    unit: str = ""
    rounds: tuple[float, ...] = ()
    bar: float | None = None
    at_most: bool = False
    note: str = ""
    skipped: str = ""
    failed: str = ""
    wrong: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar or a value."""
        if self.bar is None or self.value is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def verdict(self, *, judged: bool) -> str:
        """In words; with ``judged`` false, bars are not held against figures that mean nothing."""
        if self.wrong:
            return f"DIFFERS: {self.wrong}"
        if self.failed:
            return f"did not run: {self.failed}"
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.met is None:
            return self.note
        word = ("met" if self.met else "missed") if judged else "no verdict"
        return f"{word}; {self.note}" if self.note else word

    def plain(self, *, judged: bool) -> dict[str, Any]:
        """As data for JSON."""
        return {**asdict(self), "rounds": list(self.rounds), "met": self.met if judged else None}


def of_rounds(what: str, rounds: list[float], unit: str, **rest: Any) -> Figure:
    """The median of some rounds, at least one."""
    return Figure(what, median(rounds), unit, tuple(rounds), **rest)


def left_out(what: str, why: str) -> Figure:
    """What was not measured."""
    return Figure(what, skipped=why)


def failure(error: BaseException) -> str:
    """What went wrong, in a line."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}"[:300]


def not_run(what: str, error: BaseException) -> Figure:
    """What failed; a module that is missing skips it by the module's name."""
    if isinstance(error, ModuleNotFoundError):
        return left_out(what, absence(error))
    return Figure(what, failed=failure(error))


def absence(error: ModuleNotFoundError) -> str:
    """Which module is missing."""
    return f"{error.name} is not installed" if error.name else str(error)
