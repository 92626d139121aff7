"""The directory of segments: which there are, room for new ones within the cap, and which go first.

Servers that share a directory share its cap. Segments are made and deleted under one lock; each counts with its whole
size from the moment it is made, so the sum of sizes is never above the cap, whoever writes.
"""

import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_bytes
from stat import S_ISREG
from time import time_ns

from infergc.worker.disk.files import lock_file, locked, opened
from infergc.worker.disk.record import Layout
from infergc.worker.disk.segment import SegmentWriter

_NAME = re.compile(r"kv-[0-9a-f]{32}\.seg")
_LOCK = "lock"
_PATIENCE = 2.0  # seconds for which another process may hold the lock
_SEGMENTS = 32  # in a full directory, at least: what one deletion takes is a small part


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file that is named like a segment.

    Attributes:
        path: of the file.
        size: in bytes; 0 where it is not a regular file.
        used: when it was written or read last, in ns of the system's clock.
    """

    path: Path
    size: int
    used: int


class SegmentDirectory:
    """Segment files of all servers that share a directory.

    Args:
        path: the directory; it is made where there is none.
        cap: bytes of all segments in it, at most.
        page_tokens, page_bytes: of the pages that this server writes.

    Attributes:
        path: as given.
        layout: of new segments; smaller after ``halve``.

    Raises:
        ValueError: the cap has no room for one page.
    """

    def __init__(self, path: Path, cap: int, page_tokens: int, page_bytes: int) -> None:
        self.path = path
        self.layout = Layout.within(cap // _SEGMENTS, page_tokens, page_bytes)
        self._cap = cap
        if self.layout.size > cap:
            raise ValueError(
                f"--disk-cache-size: {cap} bytes have no room for one page of {page_bytes}; "
                f"give at least {self.layout.size}, better {_SEGMENTS} times that"
            )

    def prepare(self) -> None:
        """Make the directory, for this user alone, where there is none; delete what is above the cap.

        Raises:
            OSError: it cannot be made, something else has its name, or it is above the cap and nothing can be done.
        """
        self._make()
        if sum(file.size for file in self.listing()) > self._cap:
            with lock_file(self.path / _LOCK, _PATIENCE):
                self._make_room(0)

    def listing(self) -> list[SegmentFile]:
        """All that is named like a segment, least recently used first.

        Raises:
            OSError: the directory cannot be read.
        """
        files = []
        with os.scandir(self.path) as found:
            for one in found:
                if not _NAME.fullmatch(one.name):
                    continue
                with suppress(FileNotFoundError):  # deleted since
                    status = one.stat(follow_symlinks=False)
                    size = status.st_size if S_ISREG(status.st_mode) else 0
                    files.append(SegmentFile(Path(one.path), size, status.st_mtime_ns))
        return sorted(files, key=lambda file: (file.used, file.path.name))

    def create(self) -> tuple[SegmentWriter, list[Path]]:
        """Start a new segment, with room for its whole size within the cap.

        Returns:
            The segment, and what was deleted for it.

        Raises:
            OSError: no segment can be made; ``EDQUOT`` where what may not be deleted leaves no room.
        """
        self._make()
        name = time_ns().to_bytes(8, "big") + token_bytes(8)  # in order of time, and not to be guessed
        with lock_file(self.path / _LOCK, _PATIENCE):
            gone = self._make_room(self.layout.size)
            return SegmentWriter(self.path / f"kv-{name.hex()}.seg", self.layout, name), gone

    def give_up_oldest(self) -> list[Path]:
        """Delete the segment that was used least recently. Returns what was deleted: nothing where nothing may be.

        Raises:
            OSError: the directory cannot be read or written.
        """
        with lock_file(self.path / _LOCK, _PATIENCE):
            return next(([file.path] for file in self.listing() if _deleted(file)), [])

    def halve(self) -> None:
        """Make new segments half as large, down to one page: for a disk with room for fewer than two."""
        self.layout = replace(self.layout, records=max(self.layout.records // 2, 1))

    def touch(self, path: Path) -> None:
        """Note that a segment is of use. What cannot be noted is not."""
        with suppress(OSError), opened(path) as fd:
            os.utime(fd)

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _make_room(self, size: int) -> list[Path]:
        files = self.listing()
        gone: list[Path] = []
        held = sum(file.size for file in files)
        for file in files:
            if held + size <= self._cap:
                return gone
            if file.size and _deleted(file):
                held -= file.size
                gone.append(file.path)
        if held + size > self._cap:
            raise OSError(errno.EDQUOT, f"segments in use leave no room within {self._cap} bytes", str(self.path))
        return gone


def _deleted(file: SegmentFile) -> bool:
    """Delete a segment, unless it is being written or is not this user's. Returns whether it is gone."""
    try:
        with opened(file.path, os.O_RDWR) as fd:
            if not locked(fd):
                return False
            file.path.unlink()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return True
