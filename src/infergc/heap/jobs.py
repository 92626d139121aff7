"""What the heap asks of the disk tier, as plain data."""

from dataclasses import dataclass

from infergc.heap.names import PageName


@dataclass(frozen=True, slots=True)
class Job:
    """Pages that are to be moved between host slots and disk, all in one direction.

    Attributes:
        number: of a job that reads; -1: it writes.
        after: the step that has to land first.
        pages: which, and in which slots.
    """

    number: int
    after: int
    pages: tuple[tuple[PageName, int], ...]
