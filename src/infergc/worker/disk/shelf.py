"""What can be read from the disk, found at start and kept up to date: shared by reader and writer, on one thread."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from infergc.worker.disk.directory import SegmentDirectory
from infergc.worker.disk.files import why_unread, why_unwritten
from infergc.worker.disk.index import Index, Segment
from infergc.worker.disk.news import Failure, Lost, Mailbox
from infergc.worker.disk.record import Damaged, OfOthers
from infergc.worker.disk.segment import Found, look_through, trim
from infergc.worker.disk.tally import Tally


class Shelf:
    """The segments of a directory, the index of their pages, and the news of what is no longer among them.

    Args:
        directory: where segments are. What cannot be read of it is counted, and is not there.
    """

    def __init__(self, directory: SegmentDirectory) -> None:
        self.directory = directory
        self.index = Index()
        self.mailbox = Mailbox()
        self.tally = Tally()
        try:
            directory.prepare()
        except OSError as error:
            self.tally.fail(why_unwritten(error), error)
        try:
            paths = [file.path for file in directory.listing()]
        except OSError as error:
            self.tally.fail(why_unread(error), error)
            paths = []
        for path in paths:
            self._add(path)

    def forget(self, paths: Iterable[Path], why: Failure | None) -> None:
        """Forget segments, and tell whose pages are lost with them."""
        for path in paths:
            keys = self.index.forget(path)
            if why is None:
                self.tally.pages_evicted += len(keys)
            else:
                self.tally.fail(why, path)
            if keys:
                self.mailbox.put(Lost(keys, why))

    def lose(self, keys: tuple[bytes, ...], why: Failure) -> None:
        """Forget pages that are damaged, and tell so."""
        self.index.drop(keys)
        self.mailbox.put(Lost(keys, why))

    def _add(self, path: Path) -> None:
        found = self._looked_through(path)
        if found is None:
            return
        self.tally.fail_all(found.failures, path)
        if found.keys:
            self.index.add(Segment(path, found.layout, found.seed), found.keys)
        if found.end < found.size:
            with suppress(OSError, Damaged, OfOthers):  # it is as it was, and takes more of the cap
                trim(path, found.layout.page_tokens, found.layout.page_bytes)

    def _looked_through(self, path: Path) -> Found | None:
        layout = self.directory.layout
        try:
            return look_through(path, layout.page_tokens, layout.page_bytes)
        except OfOthers:
            self.tally.segments_of_others += 1
        except Damaged as damaged:
            self.tally.fail(Failure.TRUNCATED if damaged.is_short else Failure.CORRUPT, path)
        except FileNotFoundError:
            pass  # another server has just deleted it
        except OSError as error:
            self.tally.fail(why_unread(error), error)
        return None
