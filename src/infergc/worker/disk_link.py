"""Between the heap's jobs and the disk store: names of pages one way, news as commands the other way."""

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infergc.engine.messages import DiskNews, Fetched, Lost, Saved
from infergc.heap.jobs import Job
from infergc.heap.keys import KEY_BYTES
from infergc.heap.names import PageName
from infergc.worker.disk.news import News, Read, Written
from infergc.worker.disk.pages import DiskPage, HostPages
from infergc.worker.disk.store import DiskStore


class DiskPlace(NamedTuple):
    """Where the disk tier is, and how large its files may be together."""

    directory: Path
    size: int


class DiskLink:
    """A disk store as the engine sees it.

    Args:
        place: of its files.
        pages: the host arena.
        page_tokens: P.
    """

    def __init__(self, place: DiskPlace, pages: HostPages, page_tokens: int) -> None:
        self._store = DiskStore(place.directory, place.size, pages, page_tokens)
        self._found: list[DiskNews] = [Saved(self._store.keys())]

    def move(self, job: Job) -> None:
        """Begin a job."""
        pages = [_page(name, slot) for name, slot in job.pages]
        if job.number < 0:
            self._store.write(pages)
        else:
            self._store.read(job.number, pages)

    def news(self) -> list[DiskNews]:
        """What was done since the last call; at first what was found there."""
        found, self._found = self._found, []
        return [*found, *map(_command, self._store.news())]

    def wait(self, seconds: float) -> None:
        """Wait until there is news, so long at most."""
        self._store.wait(seconds)

    def figures(self) -> dict[str, Any]:
        """What was counted since the start, as ``engine.ports.Executor.disk_figures`` has it."""
        counters = self._store.counters()
        figures = {field.name: getattr(counters, field.name) for field in fields(counters)}
        return {**figures, "failures": {str(kind): times for kind, times in counters.failures.items()}}

    def close(self) -> None:
        """Finish what was begun."""
        self._store.close()


def _page(name: PageName, slot: int) -> DiskPage:
    return DiskPage(name.key, name.before[:KEY_BYTES], np.frombuffer(name.tokens, np.int32), slot)


def _command(news: News) -> DiskNews:
    match news:
        case Written():
            return Saved(list(news.keys), list(news.failed))
        case Read():
            return Fetched(news.job, list(news.found), news.bytes, news.seconds)
        case _:
            return Lost(list(news.keys))
