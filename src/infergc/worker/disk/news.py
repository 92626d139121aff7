"""What the disk has done, as plain data, and where it waits until somebody asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from threading import Condition


class Failure(StrEnum):
    """Why a page could not be kept or had. Each is a miss and a count, no more."""

    CORRUPT = "corrupt"  # a checksum is wrong: in a segment's header, an entry, a page
    TRUNCATED = "truncated"  # a file ends before what it should hold
    MISMATCHED = "mismatched"  # an intact page is of other tokens or another parent than asked for by its key
    UNREADABLE = "unreadable"  # the system would not open or read a file
    VANISHED = "vanished"  # a segment is gone that was there
    FOREIGN = "foreign"  # named like a segment, and no regular file of this user's
    FULL = "full"  # no space on the disk, in the quota, or within the cap
    UNWRITABLE = "unwritable"  # the directory or a file in it cannot be written, locked or made
    INTERNAL = "internal"  # an error of this program's, in the log with its place


@dataclass(frozen=True, slots=True)
class Written:
    """Part of a ``write`` is done.

    Attributes:
        keys: pages that are found from now on, by this server and by those that start later.
        failed: pages that are not; nothing more is tried.
        seconds: what it took, without the wait before.
        bytes: written to files.
    """

    keys: tuple[bytes, ...]
    failed: tuple[bytes, ...]
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Read:
    """A ``read`` is done.

    Attributes:
        job: as given.
        found: for each page asked for, whether its slot holds it now. The slots of others were not touched.
        seconds: what it took, without the wait before.
        bytes: read from files.
    """

    job: int
    found: tuple[bool, ...]
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Pages that were on the disk and are no longer.

    Attributes:
        keys: which.
        why: None where this server deleted their segment to make room.
    """

    keys: tuple[bytes, ...]
    why: Failure | None


News = Written | Read | Lost


@dataclass(frozen=True, slots=True)
class DiskCounters:
    """What the disk tier has done so far, and holds.

    Attributes:
        pages, segments: that this server can read now.
        pages_written, bytes_written, write_seconds: pages with their entries, and the time this took.
        pages_unwritten: given to be written and not on the disk for it.
        pages_read, bytes_read, read_seconds: bytes include those of pages that were then found damaged.
        pages_missed: asked for and not found.
        pages_evicted: that this server deleted to make room.
        segments_of_others: at start, whose pages are of another size, number of tokens or version of the format.
        failures: by kind; each page, file or attempt that failed counts one.
    """

    pages: int
    segments: int
    pages_written: int
    bytes_written: int
    write_seconds: float
    pages_unwritten: int
    pages_read: int
    bytes_read: int
    read_seconds: float
    pages_missed: int
    pages_evicted: int
    segments_of_others: int
    failures: Mapping[Failure, int]


class Mailbox:
    """News from one thread to another, in order."""

    def __init__(self) -> None:
        self._news: list[News] = []
        self._arrived = Condition()

    def put(self, news: News) -> None:
        """Leave a piece of news."""
        with self._arrived:
            self._news.append(news)
            self._arrived.notify_all()

    def take(self) -> list[News]:
        """All that came since the last call, oldest first."""
        with self._arrived:
            taken, self._news = self._news, []
            return taken

    def wait(self, timeout: float) -> bool:
        """Wait until there is news, ``timeout`` seconds at most. Returns whether there is."""
        with self._arrived:
            return self._arrived.wait_for(lambda: bool(self._news), timeout)
