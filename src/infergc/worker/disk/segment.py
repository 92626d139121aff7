"""One segment file: written once, front to back, by whoever made it; read by all."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from infergc.worker.disk.files import locked, made, opened, read_at, write_at
from infergc.worker.disk.news import Failure
from infergc.worker.disk.pages import KEY_BYTES, U8
from infergc.worker.disk.record import HEADER_BYTES, Damaged, Layout, entry, is_page, read_entry, read_header


class SegmentWriter:
    """A new segment that this process fills. Others see from its lock that it is being written.

    Its whole size is taken in advance, as a hole, so that what others count of the directory does not grow later.

    Raises:
        OSError: the file could not be made.
    """

    def __init__(self, path: Path, layout: Layout, name: bytes) -> None:
        self.path = path
        self.layout = layout
        self.written = 0  # records
        header = layout.header(name)
        self.seed = read_header(header, layout.page_tokens, layout.page_bytes)[1]
        self._fd = made(path)
        try:
            if not locked(self._fd):
                raise BlockingIOError(f"{path}: another process has taken the file")
            os.ftruncate(self._fd, layout.size)
            write_at(self._fd, memoryview(header), 0)
        except OSError:
            self.seal()
            raise

    @property
    def room(self) -> int:
        """Records that can still be appended."""
        return self.layout.records - self.written

    def append(self, identities: Sequence[bytes], pages: U8) -> int:
        """Append records: their pages first, then their entries, so that no entry is there before its page.

        Args:
            identities: who the pages are, no more than ``room``.
            pages: their bytes, ``[pages, page_bytes]``, contiguous.

        Returns:
            The number of the first.

        Raises:
            OSError: none of them is written.
        """
        first, at = self.written, self.layout
        entries = [
            entry(identity, first + row, page, self.seed)
            for row, (identity, page) in enumerate(zip(identities, pages, strict=True))
        ]
        write_at(self._fd, pages.data.cast("B"), at.page_at(first))
        write_at(self._fd, memoryview(b"".join(entries)), at.entry_at(first))
        self.written += len(entries)
        return first

    def is_there(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._fd))

    def seal(self) -> None:
        """Give back what was taken in advance and not used, and let go of the file; one without records goes."""
        with suppress(OSError):
            if not self.written and self.is_there():
                self.path.unlink()
            os.ftruncate(self._fd, self.layout.page_at(self.written) if self.written else 0)
        os.close(self._fd)


@dataclass(slots=True)
class Found:
    """What a segment file held when it was looked through.

    Attributes:
        path: of the file.
        layout: where things lie in it.
        seed: of its entries' checksums.
        size: of the file, in bytes.
        end: where the last record's page ends; 0 where there is no record.
        keys: (number, key) of each record whose page can be there.
        failures: of entries that are damaged, and of pages that lie behind the file's end.
    """

    path: Path
    layout: Layout
    seed: int
    size: int
    end: int = 0
    keys: list[tuple[int, bytes]] = field(default_factory=list)
    failures: Counter[Failure] = field(default_factory=Counter)


def look_through(path: Path, page_tokens: int, page_bytes: int) -> Found:
    """Read a segment's header and entries, and no page. Cost: O(its records), in two reads.

    Raises:
        Damaged, OfOthers: as ``read_header``.
        OSError: the file cannot be read.
    """
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        header = bytearray(HEADER_BYTES)
        got = read_at(fd, memoryview(header), 0)
        layout, seed = read_header(bytes(header[:got]), page_tokens, page_bytes)
        table = bytearray(layout.entry_at(layout.records) - HEADER_BYTES)
        got = read_at(fd, memoryview(table), HEADER_BYTES)
    found = Found(path, layout, seed, size)
    _read_table(found, bytes(table[:got]))
    return found


def _read_table(found: Found, table: bytes) -> None:
    layout, each = found.layout, found.layout.entry_bytes
    if len(table) < layout.records * each:
        found.failures[Failure.TRUNCATED] += 1
    entries = np.frombuffer(table, np.uint8, len(table) // each * each).reshape(-1, each)
    begun = np.flatnonzero(entries.any(axis=1)).tolist()
    whole = (found.size - layout.page_at(0)) // layout.page_bytes
    for number in begun:
        try:
            identity, _ = read_entry(table[number * each : (number + 1) * each], number, found.seed)
        except Damaged:
            found.failures[Failure.CORRUPT] += 1
            continue
        if number < whole:
            found.keys.append((number, identity[:KEY_BYTES]))
        else:
            found.failures[Failure.TRUNCATED] += 1
    if begun:
        found.end = layout.page_at(begun[-1] + 1)


def trim(path: Path, page_tokens: int, page_bytes: int) -> None:
    """Give back what a writer that died had taken in advance; what is being written is left alone.

    The time of last use stays. A segment without a record goes.

    Raises:
        Damaged, OfOthers, OSError: as ``look_through``, or the file cannot be written.
    """
    with opened(path, os.O_RDWR) as fd:
        if not locked(fd):
            return
        status = os.fstat(fd)
        end = look_through(path, page_tokens, page_bytes).end  # anew: until now it may have been written
        if end == 0:
            path.unlink()
        elif end < status.st_size:
            os.ftruncate(fd, end)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def read_run(
    fd: int, layout: Layout, seed: int, first: int, identities: Sequence[bytes], out: U8
) -> list[Failure | None]:
    """Read neighbouring records, in two reads, and check all of each.

    Args:
        fd: the segment's file.
        layout: of the segment.
        seed: of its entries' checksums.
        first: number of the first record.
        identities: who they are expected to be.
        out: ``[pages, page_bytes]``, contiguous; row i holds page i where there is no failure.

    Returns:
        For each, why it is not what was written, or None.

    Raises:
        OSError: the file could not be read.
    """
    each = layout.entry_bytes
    entries = bytearray(len(identities) * each)
    whole_entries = read_at(fd, memoryview(entries), layout.entry_at(first)) // each
    whole_pages = read_at(fd, out.data.cast("B"), layout.page_at(first)) // layout.page_bytes
    whole = min(whole_entries, whole_pages)
    faults = [
        _fault(bytes(entries[row * each : (row + 1) * each]), first + row, seed, identities[row], out[row])
        for row in range(whole)
    ]
    return faults + [Failure.TRUNCATED] * (len(identities) - whole)


def _fault(stored: bytes, number: int, seed: int, identity: bytes, page: U8) -> Failure | None:
    try:
        found, checksum = read_entry(stored, number, seed)
    except Damaged:
        return Failure.CORRUPT
    if found != identity:
        return Failure.MISMATCHED
    return None if is_page(page, identity, checksum) else Failure.CORRUPT
