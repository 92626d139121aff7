"""What the disk tier counts as it goes. Written by its thread alone, read by any."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType

from infergc.worker.disk.index import Index
from infergc.worker.disk.news import DiskCounters, Failure

_log = logging.getLogger(__name__)


def _none_yet() -> dict[Failure, int]:
    return dict.fromkeys(Failure, 0)


@dataclass(slots=True)
class Tally:
    """Counts since the start, as ``DiskCounters`` explains them."""

    pages_written: int = 0
    bytes_written: int = 0
    write_seconds: float = 0.0
    pages_unwritten: int = 0
    pages_read: int = 0
    bytes_read: int = 0
    read_seconds: float = 0.0
    pages_missed: int = 0
    pages_evicted: int = 0
    segments_of_others: int = 0
    failures: dict[Failure, int] = field(default_factory=_none_yet)  # every kind from the start: never resized

    def fail(self, why: Failure, what: object, times: int = 1) -> None:
        """Count failures of a kind; the first of each kind is told in the log."""
        if not self.failures[why] and times:
            _log.warning("disk cache: %s (%s); requests go on, and more of this kind are only counted", what, why)
        self.failures[why] += times

    def fail_all(self, failures: Counter[Failure], what: object) -> None:
        """Count failures of several kinds."""
        for why, times in failures.items():
            self.fail(why, what, times)

    def snapshot(self, index: Index) -> DiskCounters:
        """The counts as they are now."""
        return DiskCounters(
            pages=len(index),
            segments=index.segments,
            pages_written=self.pages_written,
            bytes_written=self.bytes_written,
            write_seconds=self.write_seconds,
            pages_unwritten=self.pages_unwritten,
            pages_read=self.pages_read,
            bytes_read=self.bytes_read,
            read_seconds=self.read_seconds,
            pages_missed=self.pages_missed,
            pages_evicted=self.pages_evicted,
            segments_of_others=self.segments_of_others,
            failures=MappingProxyType(dict(self.failures)),
        )
