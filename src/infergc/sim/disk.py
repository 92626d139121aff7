"""A disk tier without files: what is written is there at once, and reading takes as long as a rate says."""

from infergc.engine.messages import DiskNews, Fetched, Saved
from infergc.heap.disk import Job

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

    def move(self, job: Job) -> None:
        """Write or read."""
        keys = [name.key for name, _ in job.pages]
        if job.number < 0:
            self._keys.update(keys)
            self._news.append(Saved(keys))
            return
        found = [key in self._keys for key in keys]
        size = sum(found) * self._page_bytes
        self._news.append(Fetched(job.number, found, size, size / _BYTES_A_SECOND))

    def news(self) -> list[DiskNews]:
        """What was done since the last call."""
        news, self._news = self._news, []
        return news
