"""A disk for worlds: what was written to it, the jobs that it has, and the news of what it did."""

from typing import Any

from infergc.engine.messages import DiskNews, Fetched, Lost, Saved
from infergc.heap.disk import DiskTier, Job
from laws.shadow import Shadow


class FileStore:
    """Does jobs whenever it is told to, some of them badly.

    Attributes:
        pages: what was written, by key.
        jobs: handed over and not done.
        news: of what was done, not told yet.
        unread: pages that could not be read, ever.
    """

    def __init__(self) -> None:
        self.pages: dict[bytes, Any] = {}
        self.jobs: list[Job] = []
        self.news: list[DiskNews] = []
        self.unread: set[bytes] = set()

    def do(self, job: Job, storage: Shadow, bad: set[int]) -> None:
        """Write or read; it fails at the pages with these places in the job."""
        keys = [name.key for name, _ in job.pages]
        if job.number < 0:
            done = [at for at in range(len(keys)) if at not in bad]
            self.pages.update((keys[at], storage.lift(job.pages[at][1])) for at in done)
            self.news.append(Saved([keys[at] for at in done], [keys[at] for at in sorted(bad)]))
            return
        found = [at not in bad and key in self.pages for at, key in enumerate(keys)]
        for (name, slot), well in zip(job.pages, found, strict=True):
            if well:
                storage.lay(slot, self.pages[name.key])
        self.unread.update(key for key, well in zip(keys, found, strict=True) if not well)
        self.news.append(Fetched(job.number, found, sum(found), 0.0))

    def tell(self, at: int, disk: DiskTier) -> list[bytes]:
        """Tell the heap one piece of news; returns the claims that it gave for a read."""
        match self.news.pop(at):
            case Saved(keys, failed):
                disk.has_written(keys, well=True)
                disk.has_written(failed, well=False)
            case Fetched(number, found):
                return disk.has_read(number, found)
            case Lost(keys):
                disk.lost(keys)
        return []

    def lose(self, count: int, seed: int) -> int:
        """Give so many pages up, which news will tell; returns how many there were."""
        keys = list(self.pages)
        gone = [keys[(seed + 7 * at) % len(keys)] for at in range(min(count, len(keys)))] if keys else []
        for key in gone:
            self.pages.pop(key, None)
        if gone:
            self.news.append(Lost(gone))
        return len(gone)
