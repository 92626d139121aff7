"""What can go wrong inside the heap, and in the storage behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

_MOST_TOLD = 4  # findings that a message spells out


class HeapCorruption(RuntimeError):  # noqa: N818 - it names a state, not a caller's error
    """A law is broken: a bug in the heap or in its caller. The message begins with the law."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with storage. Storage knows pages and rows of a step, but not whose they are.

    Attributes:
        what: for people.
        group, page: the page that it concerns, -1 where it concerns none.
        row: row of the step's plan that it concerns, -1 where it concerns none.
    """

    what: str
    group: int = -1
    page: int = -1
    row: int = -1


class StorageCorruption(RuntimeError):  # noqa: N818 - as above
    """Storage does not hold what it should. Raised by a worker under ``--heap-debug``, as a step's outcome."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(listed([finding.what for finding in findings]))
        self.findings = tuple(findings)


class StorageLost(RuntimeError):  # noqa: N818 - as above
    """Pages do not hold what they should, for a move could not be made: nothing of this storage can be trusted."""


def listed(lines: Sequence[str]) -> str:
    """The first few lines as one, and how many more there are."""
    more = [f"and {len(lines) - _MOST_TOLD} more"] if len(lines) > _MOST_TOLD else []
    return "; ".join([*lines[:_MOST_TOLD], *more])
