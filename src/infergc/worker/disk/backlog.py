"""What the disk's thread still has to do. Reads go first: a request waits for them, and nobody for writes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition
from time import monotonic

from infergc.worker.disk.pages import DiskPage


@dataclass(frozen=True, slots=True)
class ReadJob:
    """Pages to read."""

    job: int
    pages: tuple[DiskPage, ...]


@dataclass(frozen=True, slots=True)
class WriteJob:
    """Pages to write: as many as are written at once, of one call or of several."""

    pages: tuple[DiskPage, ...]


Job = ReadJob | WriteJob


class Backlog:
    """Reads in order, and writes in order.

    Args:
        most: pages in one write job.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reads: deque[ReadJob] = deque()
        self._writes: deque[DiskPage] = deque()
        self._until: float | None = None  # when to stop, once it is closed
        self._changed = Condition()

    def read(self, job: int, pages: Sequence[DiskPage]) -> None:
        """Add a read.

        Raises:
            RuntimeError: it is closed.
        """
        with self._changed:
            self._check_open()
            self._reads.append(ReadJob(job, tuple(pages)))
            self._changed.notify()

    def write(self, pages: Sequence[DiskPage]) -> None:
        """Add pages to write.

        Raises:
            RuntimeError: it is closed.
        """
        with self._changed:
            self._check_open()
            self._writes.extend(pages)
            self._changed.notify()

    def next(self) -> Job | None:
        """Wait for work and take it. None: there is no more, or the time for it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._reads or self._writes or self._until is not None)
            if self._until is not None and monotonic() >= self._until:
                return None
            return self._taken()

    def close(self, timeout: float) -> None:
        """Accept nothing more, and hand out what there is for so many seconds."""
        with self._changed:
            if self._until is None:
                self._until = monotonic() + timeout
            self._changed.notify()

    def rest(self) -> list[Job]:
        """Take all that nobody will do."""
        with self._changed:
            jobs: list[Job] = []
            while (job := self._taken()) is not None:
                jobs.append(job)
            return jobs

    def _taken(self) -> Job | None:
        if self._reads:
            return self._reads.popleft()
        count = min(self._most, len(self._writes))
        return WriteJob(tuple(self._writes.popleft() for _ in range(count))) if count else None

    def _check_open(self) -> None:
        if self._until is not None:
            raise RuntimeError("the disk store is closed; nothing can be read or written any more")
