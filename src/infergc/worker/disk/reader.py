"""Reading pages back: neighbours in one go, each checked before its slot is touched."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from time import monotonic, perf_counter

from infergc.worker.disk.files import opened, why_unread
from infergc.worker.disk.index import Segment
from infergc.worker.disk.news import Failure, Read
from infergc.worker.disk.pages import U8, DiskPage, HostPages
from infergc.worker.disk.segment import read_run
from infergc.worker.disk.shelf import Shelf

_TOUCHED_EVERY = 60.0  # seconds between two notes that a segment is of use


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One page of a job, and where it is."""

    segment: Segment
    number: int
    row: int  # of the job
    page: DiskPage


class DiskReader:
    """Carries out reads, on the disk's thread.

    Args:
        shelf: what there is.
        pages: where to put it.
        scratch: ``[pages, page_bytes]``, for as many neighbours as are read at once.
    """

    def __init__(self, shelf: Shelf, pages: HostPages, scratch: U8) -> None:
        self._shelf = shelf
        self._pages = pages
        self._scratch = scratch
        self._page_tokens = shelf.directory.layout.page_tokens

    def read(self, job: int, pages: Sequence[DiskPage]) -> None:
        """Put pages into their slots, and tell which were found. What is damaged or gone is lost, and told as well."""
        start, tally = perf_counter(), self._shelf.tally
        before = tally.bytes_read
        found = [False] * len(pages)
        for segment, wanted in groupby(self._located(pages), lambda one: one.segment):
            for row in self._from_segment(segment, list(wanted)):
                found[row] = True
        seconds = perf_counter() - start
        tally.pages_read += sum(found)
        tally.pages_missed += len(found) - sum(found)
        tally.read_seconds += seconds
        self._shelf.mailbox.put(Read(job, tuple(found), seconds, tally.bytes_read - before))

    def _located(self, pages: Sequence[DiskPage]) -> list[_Wanted]:
        places = [(self._shelf.index.place(page.key), row, page) for row, page in enumerate(pages)]
        wanted = [_Wanted(*place, row, page) for place, row, page in places if place is not None]
        return sorted(wanted, key=lambda one: (one.segment.path, one.number))

    def _from_segment(self, segment: Segment, wanted: list[_Wanted]) -> list[int]:
        """Rows of those that were read and are what was written."""
        read: list[int] = []
        try:
            with opened(segment.path) as fd:
                for run in self._runs(wanted):
                    read += self._from_file(fd, segment, run)
        except OSError as error:
            why = why_unread(error)
            if why in {Failure.VANISHED, Failure.FOREIGN}:
                self._shelf.forget([segment.path], why)
            else:  # of the moment perhaps: too many open files
                self._shelf.tally.fail(why, error)
        else:
            self._touch(segment)
        return read

    def _runs(self, wanted: list[_Wanted]) -> Iterator[list[_Wanted]]:
        """Neighbours, as many as the scratch holds."""
        run: list[_Wanted] = []
        for one in wanted:
            if run and (one.number != run[-1].number + 1 or len(run) == len(self._scratch)):
                yield run
                run = []
            run.append(one)
        yield run

    def _from_file(self, fd: int, segment: Segment, run: list[_Wanted]) -> list[int]:
        out = self._scratch[: len(run)]
        identities = [one.page.identity(self._page_tokens) for one in run]
        try:
            faults = read_run(fd, segment.layout, segment.seed, run[0].number, identities, out)
        except OSError as error:
            self._shelf.tally.fail(Failure.UNREADABLE, error, len(run))
            self._shelf.lose(tuple(one.page.key for one in run), Failure.UNREADABLE)
            return []
        self._shelf.tally.bytes_read += out.nbytes
        good = [(one, data) for one, data, fault in zip(run, out, faults, strict=True) if fault is None]
        for one, data in good:
            self._pages.write(one.page.slot, data)
        self._tell_faults(segment, run, faults)
        return [one.row for one, _ in good]

    def _tell_faults(self, segment: Segment, run: list[_Wanted], faults: list[Failure | None]) -> None:
        kinds: dict[Failure, list[bytes]] = defaultdict(list)
        for one, fault in zip(run, faults, strict=True):
            if fault is not None:
                kinds[fault].append(one.page.key)
        for why, keys in kinds.items():
            self._shelf.tally.fail(why, segment.path, len(keys))
            if why is not Failure.MISMATCHED:  # that page is as it was, for whoever means it
                self._shelf.lose(tuple(keys), why)

    def _touch(self, segment: Segment) -> None:
        now = monotonic()
        if segment.touched + _TOUCHED_EVERY <= now:
            segment.touched = now
            self._shelf.directory.touch(segment.path)
