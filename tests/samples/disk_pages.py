"""Pages for a disk store without a model: bytes that follow from their number, in a plain array for a host arena."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from time import monotonic

import numpy as np

from infergc.worker.disk.news import Lost, News, Read, Written
from infergc.worker.disk.pages import U8, DiskPage
from infergc.worker.disk.store import DiskStore

PAGE_TOKENS = 4
PAGE_BYTES = 96
PATIENCE = 30.0  # seconds; nothing here takes one


class Host:
    """A host arena of ``slots`` pages, zeros at first."""

    def __init__(self, slots: int, page_bytes: int = PAGE_BYTES) -> None:
        self.page_bytes = page_bytes
        self.slots = np.zeros((slots, page_bytes), np.uint8)

    def read(self, slot: int, out: U8) -> None:
        out[:] = self.slots[slot]

    def write(self, slot: int, data: U8) -> None:
        self.slots[slot] = data


def key(number: int) -> bytes:
    return blake2b(number.to_bytes(8, "little"), digest_size=16).digest()


def page(number: int, slot: int = 0) -> DiskPage:
    """Page ``number`` of one endless prefix."""
    tokens = np.arange(number * PAGE_TOKENS, (number + 1) * PAGE_TOKENS, dtype=np.int32)
    return DiskPage(key(number), key(number - 1) if number else bytes(16), tokens, slot)


def content(number: int, page_bytes: int = PAGE_BYTES) -> U8:
    """The bytes of page ``number``."""
    return np.random.default_rng(number).integers(0, 256, page_bytes, dtype=np.uint8)


def opened(
    directory: Path, cap: int = 1 << 20, slots: int = 512, page_bytes: int = PAGE_BYTES
) -> tuple[DiskStore, Host]:
    host = Host(slots, page_bytes)
    return DiskStore(directory, cap, host, PAGE_TOKENS), host


def heard(store: DiskStore, enough: Callable[[list[News]], bool]) -> list[News]:
    """News until there is enough of it."""
    news, until = store.news(), monotonic() + PATIENCE
    while not enough(news):
        assert monotonic() < until, f"no more news after {news}"
        store.wait(1.0)
        news += store.news()
    return news


def written(store: DiskStore, host: Host, numbers: Sequence[int]) -> list[News]:
    """Write pages, in slots from 0 on, and wait until each was told of."""
    for slot, number in enumerate(numbers):
        host.slots[slot] = content(number, host.page_bytes)
    store.write([page(number, slot) for slot, number in enumerate(numbers)])
    return heard(store, lambda news: len(kept(news)) + len(failed(news)) == len(numbers))


def read_back(store: DiskStore, host: Host, numbers: Sequence[int]) -> list[bool]:
    """Read pages, in slots from 0 on. Whether each was found: exactly, or its slot is untouched."""
    return answer(store, host, numbers)[0]


def answer(store: DiskStore, host: Host, numbers: Sequence[int]) -> tuple[list[bool], list[News]]:
    """As ``read_back``, with the news until then."""
    host.slots[: len(numbers)] = 7
    store.read(5, [page(number, slot) for slot, number in enumerate(numbers)])
    news = heard(store, lambda news: any(isinstance(one, Read) for one in news))
    (done,) = (one for one in news if isinstance(one, Read))
    assert done.job == 5
    for slot, (number, found) in enumerate(zip(numbers, done.found, strict=True)):
        expected = content(number, host.page_bytes) if found else np.full(host.page_bytes, 7, np.uint8)
        assert np.array_equal(host.slots[slot], expected), f"page {number}: wrong bytes"
    return list(done.found), news


def kept(news: Sequence[News]) -> list[bytes]:
    return [one for piece in news if isinstance(piece, Written) for one in piece.keys]


def failed(news: Sequence[News]) -> list[bytes]:
    return [one for piece in news if isinstance(piece, Written) for one in piece.failed]


def lost(news: Sequence[News]) -> set[bytes]:
    return {one for piece in news if isinstance(piece, Lost) for one in piece.keys}


def segments(directory: Path) -> list[Path]:
    """Its segment files, oldest name first."""
    return sorted(directory.glob("kv-*.seg"))


def held(directory: Path) -> int:
    """Bytes of its segment files."""
    return sum(path.stat().st_size for path in segments(directory))
