"""The disk store as its caller sees it: pages go in by key, come back after a restart, and the oldest make room."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from time import sleep

import numpy as np
import pytest

from infergc.worker.disk.news import Failure, Lost, Read, Written
from infergc.worker.disk.pages import DiskPage
from infergc.worker.disk.record import Layout
from infergc.worker.disk.store import DiskStore
from samples.disk_pages import (
    PAGE_BYTES,
    PAGE_TOKENS,
    Host,
    answer,
    failed,
    heard,
    held,
    kept,
    key,
    lost,
    opened,
    page,
    read_back,
    segments,
    written,
)

ROOT = Path(__file__).parents[2]


def test_pages_come_back_into_any_slots(tmp_path):
    store, host = opened(tmp_path)
    news = written(store, host, range(20))
    assert sorted(kept(news)) == sorted(map(key, range(20)))
    assert read_back(store, host, [7, 3, 4, 5, 99, 0, 19]) == [True, True, True, True, False, True, True]
    store.close()


def test_pages_come_back_after_a_restart_in_the_order_in_which_they_went(tmp_path):
    store, host = opened(tmp_path)
    written(store, host, range(20))
    written(store, host, range(30, 35))
    store.close()
    store, host = opened(tmp_path)
    assert store.keys() == [key(number) for number in [*range(20), *range(30, 35)]]
    assert all(read_back(store, host, [*range(20), *range(30, 35)]))
    assert store.counters().pages == 25
    assert not any(store.counters().failures.values())
    store.close()


@pytest.mark.parametrize("page_bytes", [1, 96, 4096, 5_000_000])
def test_pages_of_any_size(tmp_path, page_bytes):
    store, host = opened(tmp_path, cap=64 << 20, slots=4, page_bytes=page_bytes)
    written(store, host, range(4))
    assert all(read_back(store, host, [3, 0, 1, 2]))
    store.close()
    store, host = opened(tmp_path, cap=64 << 20, slots=4, page_bytes=page_bytes)
    assert all(read_back(store, host, range(4)))
    store.close()


def test_a_page_is_of_its_parent_and_its_tokens_and_not_of_its_key_alone(tmp_path):
    store, host = opened(tmp_path)
    written(store, host, range(3))
    one = page(1)
    other_parent = DiskPage(one.key, key(77), one.tokens, 0)
    other_tokens = DiskPage(one.key, one.parent, one.tokens + 1, 1)
    store.read(1, [other_parent, other_tokens])
    (news,) = heard(store, bool)
    assert isinstance(news, Read)
    assert news.found == (False, False)
    assert store.counters().failures[Failure.MISMATCHED] == 2
    assert read_back(store, host, [1]) == [True], "for whoever means it, it is there"
    store.close()


def test_pages_of_another_size_or_with_other_token_counts_are_not_found(tmp_path):
    store, host = opened(tmp_path)
    written(store, host, range(3))
    store.close()
    larger, _ = opened(tmp_path, page_bytes=2 * PAGE_BYTES)
    longer = DiskStore(tmp_path, 1 << 20, Host(4), PAGE_TOKENS + 1)
    for store in (larger, longer):
        assert store.keys() == []
        assert store.counters().segments_of_others == 1
        assert not any(store.counters().failures.values())
        store.close()


def test_what_is_there_is_not_written_again(tmp_path):
    store, host = opened(tmp_path)
    written(store, host, [0, 1, 2])
    before = store.counters().bytes_written
    assert sorted(kept(written(store, host, [0, 1, 2]))) == sorted(map(key, range(3)))
    assert store.counters().bytes_written == before
    store.close()
    store, host = opened(tmp_path)
    written(store, host, [2, 3])
    assert store.counters().pages_written == 1
    store.close()


def test_bytes_and_seconds_are_measured(tmp_path):
    store, host = opened(tmp_path)
    (news,) = written(store, host, range(10))
    assert isinstance(news, Written)
    assert news.bytes == 10 * (PAGE_BYTES + Layout(PAGE_TOKENS, PAGE_BYTES, 1).entry_bytes)
    assert news.seconds > 0
    _, (read,) = answer(store, host, range(10))
    assert isinstance(read, Read)
    assert read.bytes == 10 * PAGE_BYTES
    assert read.seconds > 0
    counters = store.counters()
    assert (counters.bytes_written, counters.bytes_read) == (news.bytes, read.bytes)
    assert (counters.write_seconds, counters.read_seconds) == (news.seconds, read.seconds)
    assert (counters.pages_written, counters.pages_read, counters.pages_missed) == (10, 10, 0)
    store.close()


class SlowHost(Host):
    """Gives its pages when it is told to, and notes the order of calls."""

    def __init__(self) -> None:
        super().__init__(512)
        self.go = threading.Event()
        self.calls: list[str] = []

    def read(self, slot, out):
        self.go.wait()
        self.calls.append("read")
        super().read(slot, out)

    def write(self, slot, data):
        self.calls.append("write")
        super().write(slot, data)


def test_a_read_does_not_wait_for_the_writes_before_it(tmp_path):
    large = 3 << 20  # one page is written at once
    store, host = opened(tmp_path, 1 << 30, 4, large)
    written(store, host, [0])
    store.close()
    slow = SlowHost()
    slow.page_bytes, slow.slots = large, np.zeros((4, large), np.uint8)
    store = DiskStore(tmp_path, 1 << 30, slow, PAGE_TOKENS)
    store.write([page(number, 1) for number in (1, 2, 3)])
    store.read(9, [page(0, 0)])
    slow.go.set()
    heard(store, lambda news: len(kept(news)) == 3)
    assert slow.calls.index("write") <= 1
    store.close()


def test_closing_finishes_what_was_asked_for(tmp_path):
    store, _ = opened(tmp_path)
    store.write([page(number) for number in range(100)])
    store.close()
    assert len(kept(store.news())) == 100
    with pytest.raises(RuntimeError, match="closed"):
        store.write([page(1)])
    with pytest.raises(RuntimeError, match="closed"):
        store.read(1, [page(1)])
    store.close()


def test_closing_is_bounded_and_answers_all(tmp_path):
    slow = SlowHost()
    store = DiskStore(tmp_path, 1 << 20, slow, PAGE_TOKENS)
    store.write([page(number) for number in range(3)])
    while store._backlog._writes:
        pass
    store.read(1, [page(0)])
    store.write([page(number) for number in range(3, 6)])
    store.close(timeout=0.1)
    news = store.news()
    assert failed(news) == [key(3), key(4), key(5)]
    assert [one.found for one in news if isinstance(one, Read)] == [(False,)]
    slow.go.set()
    store._thread.join()
    assert kept(store.news()) == [key(0), key(1), key(2)]


class SleepyHost(Host):
    """Takes its time for every page."""

    def read(self, slot, out):
        sleep(0.05)
        super().read(slot, out)


def test_closing_ends_the_segment_when_its_time_is_over(tmp_path):
    store = DiskStore(tmp_path, 1 << 30, SleepyHost(1, page_bytes=1 << 20), PAGE_TOKENS)
    store.write([page(number) for number in range(40)])
    store.close(timeout=0.2)
    assert not store._thread.is_alive()
    news = store.news()
    assert 0 < len(kept(news)) < 10
    assert len(kept(news)) + len(failed(news)) == 40
    (path,) = segments(tmp_path)
    assert path.stat().st_size == store._shelf.directory.layout.page_at(len(kept(news)))


def test_waiting_ends_with_news_or_with_its_time(tmp_path):
    store, _ = opened(tmp_path)
    assert not store.wait(0.01)
    store.write([page(1)])
    assert store.wait(10.0)
    assert store.wait(0.0), "until it is taken"
    store.close()


@pytest.mark.parametrize(
    "wrong",
    [
        DiskPage(b"short", bytes(16), np.zeros(PAGE_TOKENS, np.int32), 0),
        DiskPage(bytes(16), b"short", np.zeros(PAGE_TOKENS, np.int32), 0),
        DiskPage(bytes(16), bytes(16), np.zeros(PAGE_TOKENS + 1, np.int32), 0),
    ],
)
def test_what_is_no_page_is_refused_at_once(tmp_path, wrong):
    store, _ = opened(tmp_path)
    with pytest.raises(ValueError, match=r"bytes each|tokens"):
        store.write([page(1), wrong])
    with pytest.raises(ValueError, match=r"bytes each|tokens"):
        store.read(1, [wrong])
    store.close()
    assert store.news() == []


def test_a_cap_without_room_for_a_page_is_refused_by_its_flag(tmp_path):
    with pytest.raises(ValueError, match=r"--disk-cache-size: 1000 bytes .* at least \d+"):
        DiskStore(tmp_path, 1000, Host(1), PAGE_TOKENS)


def test_a_host_that_fails_fails_its_job_and_no_other(tmp_path, caplog):
    store, host = opened(tmp_path)
    news = written(store, host, [0, 1])
    store.write([page(2, slot=10_000)])
    news = heard(store, bool)
    assert failed(news) == [key(2)]
    store.read(3, [page(0, slot=10_000)])
    (read,) = heard(store, bool)
    assert isinstance(read, Read)
    assert read.found == (False,)
    assert store.counters().failures[Failure.INTERNAL] == 2
    assert "IndexError" in caplog.text
    assert all(read_back(store, host, [0, 1]))
    store.close()


def test_the_cap_holds_and_the_least_recently_used_go(tmp_path):
    cap = 256 << 10
    store, host = opened(tmp_path, cap)
    per_segment = store._shelf.directory.layout.records
    gone: set[bytes] = set()
    for start in range(0, 60 * per_segment, per_segment):
        news = written(store, host, range(start, start + per_segment))
        gone |= lost(news)
        assert held(tmp_path) <= cap
        assert all(one.why is None for one in news if isinstance(one, Lost))
    assert len(gone) >= 15 * per_segment
    assert gone == {key(number) for number in range(len(gone))}
    assert store.counters().pages_evicted == len(gone)
    assert store.counters().pages == 60 * per_segment - len(gone)
    assert read_back(store, host, [0, 60 * per_segment - 1]) == [False, True]
    store.close()


def test_what_is_read_stays_longer_even_over_a_restart(tmp_path):
    cap = 256 << 10
    store, host = opened(tmp_path, cap)
    per_segment = store._shelf.directory.layout.records
    for start in range(0, 10 * per_segment, per_segment):
        written(store, host, range(start, start + per_segment))
    store.close()
    for age, path in enumerate(sorted(segments(tmp_path), key=lambda path: path.stat().st_mtime_ns)):
        os.utime(path, (age, age))
    store, host = opened(tmp_path, cap)
    assert read_back(store, host, [0]) == [True]
    store.close()
    store, host = opened(tmp_path, cap)
    assert store.keys()[-1] == key(per_segment - 1), "its segment is the last to go"
    gone: set[bytes] = set()
    for start in range(100 * per_segment, 135 * per_segment, per_segment):
        gone |= lost(written(store, host, range(start, start + per_segment)))
    assert key(per_segment) in gone
    assert key(0) not in gone
    store.close()


def test_a_smaller_cap_holds_from_the_start(tmp_path):
    store, host = opened(tmp_path, 1 << 20)
    for start in range(0, 2000, 500):
        written(store, host, range(start, start + 500))
    store.close()
    assert held(tmp_path) > 64 << 10
    store, host = opened(tmp_path, 64 << 10)
    assert held(tmp_path) <= 64 << 10
    store.close()


def test_only_this_user_may_read_what_is_written(tmp_path):
    directory = tmp_path / "deep" / "cache"
    old = os.umask(0)
    try:
        store, host = opened(directory)
        written(store, host, [0])
        assert directory.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
        store.close()
    finally:
        os.umask(old)


def test_nothing_of_it_loads_torch():
    names = [path.stem for path in (ROOT / "src/infergc/worker/disk").glob("*.py") if path.stem != "__init__"]
    script = "import sys\n" + "".join(f"import infergc.worker.disk.{name}\n" for name in names)
    script += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
