"""Two servers on one directory: each writes its own segments, reads the other's, and survives their deletion."""

import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from infergc.worker.disk.directory import SegmentDirectory
from infergc.worker.disk.news import Failure, Lost
from infergc.worker.disk.record import HEADER_BYTES
from infergc.worker.disk.writer import Pause
from samples.disk_pages import (
    PAGE_BYTES,
    PAGE_TOKENS,
    answer,
    failed,
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
from samples.processes import child

CAP = 256 << 10


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pause, "_FIRST", 0.0)


def test_each_reads_what_the_other_had_written_when_it_started(tmp_path):
    first, first_host = opened(tmp_path)
    written(first, first_host, range(10))
    second, second_host = opened(tmp_path)
    assert second.keys() == [key(number) for number in range(10)], "though the first goes on writing there"
    written(second, second_host, range(10, 20))
    written(first, first_host, range(20, 30))
    assert all(read_back(second, second_host, range(20)))
    assert all(read_back(first, first_host, [*range(10), *range(20, 30)]))
    assert len(segments(tmp_path)) == 2
    first.close()
    second.close()
    third, host = opened(tmp_path)
    assert all(read_back(third, host, range(30)))
    third.close()


def test_a_page_that_two_have_written_outlives_the_older_of_them(tmp_path):
    stores = [opened(tmp_path, CAP) for _ in range(2)]
    for store, host in stores:
        written(store, host, range(10))
    for store, _ in stores:
        store.close()
    older, newer = segments(tmp_path)
    os.utime(older, (1, 1))
    os.utime(newer, (2, 2))
    store, host = opened(tmp_path, CAP)
    older.unlink()
    news = written(store, host, range(100, 110))
    assert lost(news) == set()
    assert store.counters().failures[Failure.VANISHED] == 1
    assert all(read_back(store, host, range(10)))
    store.close()


def test_one_deletes_what_the_other_reads(tmp_path):
    first, first_host = opened(tmp_path, CAP)
    written(first, first_host, range(10))
    first.close()
    reader, reader_host = opened(tmp_path, CAP)
    assert len(reader.keys()) == 10
    writer, writer_host = opened(tmp_path, CAP)
    gone: set[bytes] = set()
    for start in range(100, 2000, 100):
        gone |= lost(written(writer, writer_host, range(start, start + 100)))
    assert key(0) in gone
    found, news = answer(reader, reader_host, range(10))
    assert not any(found)
    assert [(set(one.keys), one.why) for one in news if isinstance(one, Lost)] == [
        ({key(number) for number in range(10)}, Failure.VANISHED)
    ]
    reader.close()
    writer.close()


def test_what_is_being_written_is_neither_deleted_nor_trimmed(tmp_path):
    first, first_host = opened(tmp_path, CAP)
    written(first, first_host, range(3))
    (path,) = segments(tmp_path)
    size = path.stat().st_size
    os.utime(path, (0, 0))  # the oldest there is
    second, second_host = opened(tmp_path, CAP)
    for start in range(100, 2000, 100):
        written(second, second_host, range(start, start + 100))
        assert held(tmp_path) <= CAP
    assert path.stat().st_size == size
    assert all(read_back(first, first_host, range(3)))
    first.close()
    second.close()


def test_where_all_is_being_written_there_is_no_room(tmp_path):
    directory = SegmentDirectory(tmp_path, CAP, PAGE_TOKENS, PAGE_BYTES)
    writers = []
    while held(tmp_path) + directory.layout.size <= CAP:
        writers.append(directory.create()[0])
    store, host = opened(tmp_path, CAP)
    assert failed(written(store, host, [0])) == [key(0)]
    assert store.counters().failures[Failure.FULL] == 1
    assert held(tmp_path) <= CAP
    writers.pop().seal()
    assert kept(written(store, host, [0])) == [key(0)]
    store.close()
    for writer in writers:
        writer.seal()
    assert len(segments(tmp_path)) == 1, "those without a page are gone"


def test_the_cap_holds_at_every_moment_whoever_writes(tmp_path):
    """Two servers write, and what they use together is looked at all the while."""
    stores = [opened(tmp_path, CAP) for _ in range(2)]
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            sizes = 0
            for entry in os.scandir(tmp_path):
                try:
                    sizes += entry.stat().st_size
                except FileNotFoundError:
                    continue
            most[0] = max(most[0], sizes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for start in range(0, 3000, 100):
        for (store, _), first in zip(stores, (start, 10_000 + start), strict=True):
            store.write([page(first + number) for number in range(100)])
    for store, _ in stores:
        store.close()
        assert store.counters().failures[Failure.FULL] == 0
        assert store.counters().pages_written == 3000
    done.set()
    watcher.join()
    assert CAP // 2 < most[0] <= CAP


def test_a_hung_server_that_holds_the_lock_stops_nobody_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr("infergc.worker.disk.directory._PATIENCE", 0.05)
    store, host = opened(tmp_path)
    written(store, host, [0])
    store.close()
    with (tmp_path / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store, host = opened(tmp_path)
        assert failed(written(store, host, [1])) == [key(1)]
        assert store.counters().failures[Failure.UNWRITABLE] == 1
        assert read_back(store, host, [0]) == [True]
    assert kept(written(store, host, [1])) == [key(1)]
    store.close()


def test_what_a_dead_writer_had_taken_in_advance_is_given_back(tmp_path):
    store, host = opened(tmp_path)
    written(store, host, range(3))
    (path,) = segments(tmp_path)
    left = tmp_path / "left"
    shutil.copytree(tmp_path, left)  # as a server that was killed leaves it
    store.close()
    (left_path,) = segments(left)
    os.utime(left_path, (5, 5))
    layout = store._shelf.directory.layout
    assert left_path.stat().st_size == layout.size
    other, host = opened(left)
    assert left_path.stat().st_size == layout.page_at(3) == path.stat().st_size
    assert left_path.stat().st_mtime == 5, "nobody has used it"
    assert all(read_back(other, host, range(3)))
    other.close()


def test_a_segment_that_its_writer_never_came_to_fill_goes(tmp_path):
    directory = SegmentDirectory(tmp_path, CAP, PAGE_TOKENS, PAGE_BYTES)
    writer, _ = directory.create()
    data = writer.path.read_bytes()
    writer.seal()
    assert segments(tmp_path) == []
    writer.path.write_bytes(data[:HEADER_BYTES])
    store, _ = opened(tmp_path, CAP)
    assert segments(tmp_path) == []
    store.close()


MANY = """
import sys
from pathlib import Path
from infergc.worker.disk.writer import Pause
from samples.disk_pages import opened, page, content, written, answer, failed
Pause._FIRST = 0.0
directory, mine, other = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store, host = opened(directory, 256 << 10)
for round in range(40):
    start = mine + 25 * round
    assert not failed(written(store, host, range(start, start + 25)))
    answer(store, host, range(start, start + 25))
    if round % 10 == 9:
        store.close()
        store, host = opened(directory, 256 << 10)
    answer(store, host, range(other, other + 500))
counts = store.counters()
store.close()
bad = {why: count for why, count in counts.failures.items() if count and why != "vanished"}
assert not bad, bad
"""


def test_processes_that_write_read_and_delete_beside_each_other(tmp_path):
    """Each page that is found is checked to be the bytes that belong to its key."""
    both = [child(MANY, tmp_path, first, second) for first, second in ((0, 10_000), (10_000, 0))]
    for process in both:
        with process:
            assert process.wait(timeout=120) == 0
    assert held(tmp_path) <= CAP
    names = {path.name for path in Path(tmp_path).iterdir()}
    assert names == {"lock"} | {path.name for path in segments(tmp_path)}
