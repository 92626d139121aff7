"""What is wrong with a trace, and with which of its lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TOLD = 5  # bad rows in one message


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    Attributes:
        line: its line in the file, counted from 1.
        why: the field and what it may hold.
    """

    line: int
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}"


class OptionError(ValueError):
    """An option holds what it may not, or is of no use for what is read; the message begins with its name."""


class TraceError(ValueError):
    """A file cannot be used as a trace.

    Attributes:
        bad_rows: those at fault; none if it is the file as a whole.
    """

    def __init__(self, path: Path, why: str, bad_rows: Sequence[BadRow] = ()) -> None:
        super().__init__(f"{path}: {why}")
        self.bad_rows = tuple(bad_rows)


def refusal(path: Path, bad_rows: Sequence[BadRow], rows: int, known: str) -> TraceError:
    """The error that tells of the first bad rows of a file, and how many there are.

    Args:
        path: of the file.
        bad_rows: at least one.
        rows: of the file, good and bad.
        known: formats, which are told where no row is good.
    """
    told = [str(row) for row in bad_rows[:_TOLD]]
    more = [f"and {len(bad_rows) - _TOLD} more"] if len(bad_rows) > _TOLD else []
    if len(bad_rows) == rows:
        more.append(f"perhaps it is of no known format; known are: {known}")
    head = f"{len(bad_rows)} of {rows} rows cannot be used:"
    return TraceError(path, "\n  ".join([head, *told, *more]), bad_rows)
