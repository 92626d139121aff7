"""The disk store: pages go to segment files and come back, on a thread of its own, and news tells what was done."""

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import numpy as np

from infergc.units import MIB
from infergc.worker.disk.backlog import Backlog, Job, ReadJob
from infergc.worker.disk.directory import SegmentDirectory
from infergc.worker.disk.news import DiskCounters, Failure, News, Read, Written
from infergc.worker.disk.pages import DiskPage, HostPages
from infergc.worker.disk.reader import DiskReader
from infergc.worker.disk.shelf import Shelf
from infergc.worker.disk.writer import DiskWriter

_log = logging.getLogger(__name__)

_SCRATCH_BYTES = 4 * MIB  # read at once; one page where pages are larger
_WRITE_BYTES = MIB  # written at once, likewise: what a read may have to wait for
_CLOSING = 10.0  # seconds in which ``close`` finishes what was asked for


class DiskStore:
    """Pages of KV in the files of a directory. What is wrong with disk or files is a miss and a count, never an error.

    The constructor looks through the segments' tables, not at pages. ``write``, ``read``, ``news``, ``wait``
    and ``counters`` may be called from any thread and return at once. A slot belongs to the disk until the news of its
    job. Memory: some 200 bytes for a page on disk, 4 MiB or one page to move them, and what is asked for and
    not yet done, which is the caller's to bound.

    Args:
        directory: made if need be; servers may share it.
        cap: bytes of all segments in it, at most.
        pages: the host arena.
        page_tokens: tokens in a page.

    Raises:
        ValueError: the cap has no room for one page.
    """

    def __init__(self, directory: Path, cap: int, pages: HostPages, page_tokens: int) -> None:
        self._page_tokens = page_tokens
        self._shelf = Shelf(SegmentDirectory(directory, cap, page_tokens, pages.page_bytes))
        self._at_start = self._shelf.index.keys()
        scratch = np.zeros((max(_SCRATCH_BYTES // pages.page_bytes, 1), pages.page_bytes), np.uint8)
        self._reader = DiskReader(self._shelf, pages, scratch)
        self._writer = DiskWriter(self._shelf, pages, scratch)
        self._backlog = Backlog(max(_WRITE_BYTES // pages.page_bytes, 1))
        self._thread = Thread(target=self._run, name="infergc-disk", daemon=True)
        self._thread.start()

    def keys(self) -> list[bytes]:
        """Pages that were found at start, least recently used segment first."""
        return list(self._at_start)

    def write(self, pages: Sequence[DiskPage]) -> None:
        """Have pages written. ``Written`` tells of each, in one piece of news or several.

        Raises:
            ValueError: a key, parent or token ids have the wrong size.
            RuntimeError: the store is closed.
        """
        self._check(pages)
        self._backlog.write(pages)

    def read(self, job: int, pages: Sequence[DiskPage]) -> None:
        """Have pages read into their slots. One ``Read`` with this job number tells of all. Reads go before writes.

        Raises:
            ValueError: a key, parent or token ids have the wrong size.
            RuntimeError: the store is closed.
        """
        self._check(pages)
        self._backlog.read(job, pages)

    def news(self) -> list[News]:
        """What was done since the last call, oldest first."""
        return self._shelf.mailbox.take()

    def wait(self, timeout: float) -> bool:
        """Wait until there is news, ``timeout`` seconds at most. Returns whether there is."""
        return self._shelf.mailbox.wait(timeout)

    def counters(self) -> DiskCounters:
        """What was done so far, and what is held."""
        return self._shelf.tally.snapshot(self._shelf.index)

    def close(self, timeout: float = _CLOSING) -> None:
        """Finish what was asked for, within ``timeout`` seconds; the rest fails. Then end the thread."""
        self._backlog.close(timeout)
        self._thread.join(timeout + 1.0)  # a disk that hangs keeps its thread, and nobody else
        for job in self._backlog.rest():
            self._give_up(job)

    def _check(self, pages: Sequence[DiskPage]) -> None:
        for page in pages:
            page.identity(self._page_tokens)

    def _run(self) -> None:
        while (job := self._backlog.next()) is not None:
            try:
                self._do(job)
            except Exception as error:  # noqa: BLE001 - whoever waits for this job must hear of it
                _log.exception("disk cache: a job failed")
                self._shelf.tally.fail(Failure.INTERNAL, error)
                self._give_up(job)
        self._writer.close()

    def _do(self, job: Job) -> None:
        if isinstance(job, ReadJob):
            self._reader.read(job.job, job.pages)
        else:
            self._writer.write(job.pages)

    def _give_up(self, job: Job) -> None:
        tally, count = self._shelf.tally, len(job.pages)
        if isinstance(job, ReadJob):
            tally.pages_missed += count
            self._shelf.mailbox.put(Read(job.job, (False,) * count, 0.0, 0))
        else:
            tally.pages_unwritten += count
            self._shelf.mailbox.put(Written((), tuple(page.key for page in job.pages), 0.0, 0))
