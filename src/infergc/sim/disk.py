"""A disk tier without files: what is written is there at once, and reading takes as long as a rate says."""

from typing import Any

from infergc.engine.messages import DiskNews, Fetched, Saved
from infergc.engine.tier_stats import DISK_FAILURES
from infergc.heap.jobs import Job

_BYTES_A_SECOND = 2e9


class SimDisk:
    """Carries out jobs in no time.

    Args:
        page_bytes: of one page over all layer groups.
    """

    def __init__(self, page_bytes: int) -> None:
        self._page_bytes = page_bytes
        self._keys: set[bytes] = set()
        self._news: list[DiskNews] = []
        self._written = self._read = self._missed = 0  # pages

    def move(self, job: Job) -> None:
        """Write or read."""
        keys = [name.key for name, _ in job.pages]
        if job.number < 0:
            self._keys.update(keys)
            self._written += len(keys)
            self._news.append(Saved(keys))
            return
        found = [key in self._keys for key in keys]
        size = sum(found) * self._page_bytes
        self._read, self._missed = self._read + sum(found), self._missed + len(found) - sum(found)
        self._news.append(Fetched(job.number, found, size, size / _BYTES_A_SECOND))

    def figures(self) -> dict[str, Any]:
        """As ``engine.ports.Executor.disk_figures`` has it. Writing takes no time, and nothing fails."""
        read = self._read * self._page_bytes
        return {
            "segments": 0,
            "pages_written": self._written,
            "bytes_written": self._written * self._page_bytes,
            "write_seconds": 0.0,
            "pages_unwritten": 0,
            "pages_read": self._read,
            "bytes_read": read,
            "read_seconds": read / _BYTES_A_SECOND,
            "pages_missed": self._missed,
            "pages_evicted": 0,
            "segments_of_others": 0,
            "failures": dict.fromkeys(DISK_FAILURES, 0),
        }

    def news(self) -> list[DiskNews]:
        """What was done since the last call."""
        news, self._news = self._news, []
        return news
