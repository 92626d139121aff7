"""Writing pages: into segments of this server's own, one after the other, with a pause after what went wrong."""

import errno
from collections.abc import Sequence
from time import monotonic, perf_counter

from infergc.worker.disk.files import why_unwritten
from infergc.worker.disk.index import Segment
from infergc.worker.disk.news import Failure, Written
from infergc.worker.disk.pages import U8, DiskPage, HostPages
from infergc.worker.disk.segment import SegmentWriter
from infergc.worker.disk.shelf import Shelf

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class Pause:
    """When to try again after failures: after a second, and twice as long each time, up to a minute."""

    _FIRST, _LONGEST = 1.0, 60.0

    def __init__(self) -> None:
        self._seconds = self._FIRST
        self._until = 0.0

    def is_over(self) -> bool:
        """Whether to try."""
        return monotonic() >= self._until

    def begin(self) -> None:
        """It went wrong."""
        self._until = monotonic() + self._seconds
        self._seconds = min(2 * self._seconds, self._LONGEST)

    def end(self) -> None:
        """It went well."""
        self._seconds = self._FIRST


class DiskWriter:
    """Carries out writes, on the disk's thread.

    A write that fails ends the segment: nothing is appended behind bytes of which nobody knows how many there are.
    While the pause lasts, pages fail at once. Where the disk is full before the cap is reached, the segment that was
    used least recently goes: the cache has what room there is, and goes on changing.

    Args:
        shelf: what there is.
        pages: where pages come from.
        scratch: ``[pages, page_bytes]``, for as many as are written at once.
    """

    def __init__(self, shelf: Shelf, pages: HostPages, scratch: U8) -> None:
        self._shelf = shelf
        self._pages = pages
        self._scratch = scratch
        self._page_tokens = shelf.directory.layout.page_tokens
        self._open: tuple[SegmentWriter, Segment] | None = None
        self._pause = Pause()

    def write(self, pages: Sequence[DiskPage]) -> None:
        """Write pages that are not on the disk yet, and tell which are now. No more than the scratch holds."""
        start, tally = perf_counter(), self._shelf.tally
        before = tally.bytes_written
        new = list({page.key: page for page in pages if page.key not in self._shelf.index}.values())
        self._write_new(new)
        keys, failed = (
            tuple(page.key for page in pages if (page.key in self._shelf.index) is kept) for kept in (True, False)
        )
        seconds = perf_counter() - start
        tally.pages_unwritten += len(failed)
        tally.write_seconds += seconds
        self._shelf.mailbox.put(Written(keys, failed, seconds, tally.bytes_written - before))

    def close(self) -> None:
        """End the segment that is being written."""
        if self._open is not None:
            writer, _ = self._open
            self._open = None
            writer.seal()

    def _write_new(self, pages: list[DiskPage]) -> None:
        while pages and self._pause.is_over():
            try:
                writer, segment = self._segment()
                part, pages = pages[: writer.room], pages[writer.room :]
                self._append(writer, segment, part)
            except OSError as error:
                self._failed(error)
                return
            self._pause.end()

    def _segment(self) -> tuple[SegmentWriter, Segment]:
        if self._open is not None and not self._open[0].room:
            self.close()
        if self._open is None:
            writer, gone = self._shelf.directory.create()
            self._open = (writer, Segment(writer.path, writer.layout, writer.seed))
            self._shelf.forget(gone, None)
            there = {file.path for file in self._shelf.directory.listing()}
            self._shelf.forget([path for path in self._shelf.index.paths() if path not in there], Failure.VANISHED)
        return self._open

    def _append(self, writer: SegmentWriter, segment: Segment, pages: list[DiskPage]) -> None:
        data = self._scratch[: len(pages)]
        for page, out in zip(pages, data, strict=True):
            self._pages.read(page.slot, out)
        first = writer.append([page.identity(self._page_tokens) for page in pages], data)
        if not writer.is_there():  # deleted, or its directory moved away: these pages are nowhere
            self.close()
            self._shelf.forget([segment.path], Failure.VANISHED)
            return
        self._shelf.index.add(segment, ((first + row, page.key) for row, page in enumerate(pages)))
        self._shelf.tally.pages_written += len(pages)
        self._shelf.tally.bytes_written += data.nbytes + len(pages) * writer.layout.entry_bytes

    def _failed(self, error: OSError) -> None:
        self._shelf.tally.fail(why_unwritten(error), error)
        self._pause.begin()
        self.close()
        if error.errno in _NO_SPACE:
            self._yield_space()

    def _yield_space(self) -> None:
        try:
            gone = self._shelf.directory.give_up_oldest()
        except OSError as error:
            self._shelf.tally.fail(why_unwritten(error), error)
            return
        self._shelf.forget(gone, None)
        if gone and not self._shelf.index.segments:  # with another of that size all would be lost each time
            self._shelf.directory.halve()
