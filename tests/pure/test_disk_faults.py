"""What goes wrong around the files: full disks, directories that cannot be had, strangers. A miss, a count, no more."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from infergc.worker.disk.news import Failure
from infergc.worker.disk.store import DiskStore
from infergc.worker.disk.writer import Pause
from samples.disk_pages import answer, failed, kept, key, lost, opened, read_back, segments, written
from samples.processes import run_child, run_under_mount


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pause, "_FIRST", 0.0)


def only_failure(store: DiskStore) -> Failure:
    (why,) = (why for why, count in store.counters().failures.items() if count)
    return why


def a_file(path: Path) -> Path:
    path.write_text("not a directory")
    return path


def below_a_file(path: Path) -> Path:
    return a_file(path) / "cache"


def where_nothing_can_be_made(_: Path) -> Path:
    return Path("/proc/self/infergc-cache")


def a_link_to_itself(path: Path) -> Path:
    path.symlink_to(path)
    return path


@pytest.mark.parametrize("bad", [a_file, below_a_file, where_nothing_can_be_made, a_link_to_itself])
def test_a_directory_that_cannot_be_had(tmp_path, bad):
    store, host = opened(bad(tmp_path / "cache"))
    assert store.keys() == []
    assert failed(written(store, host, [0, 1])) == [key(0), key(1)]
    assert read_back(store, host, [0]) == [False]
    assert store.counters().failures[Failure.UNWRITABLE] >= 2
    assert store.counters().failures[Failure.INTERNAL] == 0
    assert store.counters().pages_unwritten == 2
    store.close()


def test_a_directory_that_can_be_had_later(tmp_path):
    place = a_file(tmp_path / "cache")
    store, host = opened(place)
    assert failed(written(store, host, [0]))
    place.unlink()
    assert kept(written(store, host, [0])) == [key(0)]
    assert read_back(store, host, [0]) == [True]
    store.close()


READ_ONLY = """
import sys
from pathlib import Path
from infergc.worker.disk.news import Failure
from samples.disk_pages import failed, key, opened, read_back, written
store, host = opened(Path(sys.argv[1]))
assert len(store.keys()) == 10
assert failed(written(store, host, [0, 20])) == [key(20)]
assert read_back(store, host, [*range(10), 20]) == [True] * 10 + [False]
counts = {why: count for why, count in store.counters().failures.items() if count}
assert counts == {Failure.UNWRITABLE: 1}, counts
store.close()
"""


def test_a_read_only_directory_is_read(tmp_path):
    store, host = opened(tmp_path)
    written(store, host, range(10))
    store.close()
    run_under_mount('mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"', READ_ONLY, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_without_permission_to_write_is_read(tmp_path):
    store, host = opened(tmp_path)
    written(store, host, range(10))
    store.close()
    tmp_path.chmod(0o500)
    store, host = opened(tmp_path)
    assert failed(written(store, host, [20])) == [key(20)]
    assert all(read_back(store, host, range(10)))
    assert only_failure(store) is Failure.UNWRITABLE
    store.close()
    tmp_path.chmod(0o700)


FULL = """
import sys
from pathlib import Path
from infergc.worker.disk.news import Failure
from infergc.worker.disk.writer import Pause
from samples.disk_pages import failed, held, kept, lost, opened, read_back, segments, written
Pause._FIRST = 0.0
directory = Path(sys.argv[1])
store, host = opened(directory, cap=1 << 30, slots=64, page_bytes=4096)
fails, gone = 0, 0
for start in range(0, 8192, 64):
    news = written(store, host, range(start, start + 64))
    fails += len(failed(news))
    gone += len(lost(news))
counters = store.counters()
assert counters.failures[Failure.FULL] >= 2, counters
assert counters.failures[Failure.INTERNAL] == 0, counters
assert fails and gone, (fails, gone)
found = sum(sum(read_back(store, host, range(start, start + 64))) for start in range(0, 8192, 64))
assert found == counters.pages > 64, (found, counters)
store.close()
store, host = opened(directory, cap=1 << 30, slots=64, page_bytes=4096)
assert len(store.keys()) == found
again = sum(sum(read_back(store, host, range(start, start + 64))) for start in range(0, 8192, 64))
assert again == found
store.close()
"""


def test_a_full_disk_gives_its_oldest_up_and_goes_on(tmp_path):
    """8192 pages of 4 KiB to a file system of 4 MiB, under a cap that never matters."""
    run_under_mount('mount -t tmpfs -o size=4m none "$1"', FULL, tmp_path)


LIMITED = """
import resource, sys
from pathlib import Path
from infergc.worker.disk.news import Failure
from infergc.worker.disk.writer import Pause
from samples.disk_pages import failed, kept, key, lost, opened, read_back, written
Pause._FIRST = 0.0
store, host = opened(Path(sys.argv[1]))
assert not failed(written(store, host, range(10)))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
middle = store._shelf.directory.layout.page_at(12) + 17
resource.setrlimit(resource.RLIMIT_FSIZE, (middle, hard))
news = written(store, host, range(10, 20))
assert failed(news) == [key(number) for number in range(10, 20)]
assert failed(written(store, host, [30])) == [key(30)], "no new segment either"
assert store.counters().failures[Failure.FULL] == 2
assert not lost(news), "deleting files would not help"
assert all(read_back(store, host, range(10)))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert not failed(written(store, host, range(10, 20)))
assert all(read_back(store, host, range(20)))
store.close()
store, host = opened(Path(sys.argv[1]))
assert all(read_back(store, host, range(20)))
assert not any(store.counters().failures.values())
store.close()
"""


def test_a_write_that_stops_in_the_middle_costs_what_it_would_have_written(tmp_path):
    """By the limit on the size of files, a disk is full for whoever writes, in the middle of a page."""
    run_child(LIMITED, tmp_path)


def test_after_a_failure_nothing_is_tried_until_the_pause_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(Pause, "_FIRST", 100.0)
    place = a_file(tmp_path / "cache")
    store, host = opened(place)
    before = store.counters().failures[Failure.UNWRITABLE]
    assert failed(written(store, host, [0]))
    place.unlink()
    assert failed(written(store, host, [0]))
    assert store.counters().failures[Failure.UNWRITABLE] == before + 1, "one attempt"
    store.close()


def test_pauses_grow_to_a_minute_and_end_with_success(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(Pause, "_FIRST", 1.0)
    monkeypatch.setattr("infergc.worker.disk.writer.monotonic", lambda: now[0])
    pause, lengths = Pause(), []
    for _ in range(8):
        pause.begin()
        start = now[0]
        while not pause.is_over():
            now[0] += 1.0
        lengths.append(now[0] - start)
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60]
    pause.end()
    pause.begin()
    now[0] += 1.0
    assert pause.is_over()


def test_a_write_that_succeeds_ends_the_pauses(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(Pause, "_FIRST", 1.0)
    monkeypatch.setattr("infergc.worker.disk.writer.monotonic", lambda: now[0])
    place = a_file(tmp_path / "cache")
    store, host = opened(place)
    for seconds in (1.0, 2.0):
        assert failed(written(store, host, [0]))
        now[0] += seconds
    place.unlink()
    assert kept(written(store, host, [0]))
    shutil.rmtree(place)
    a_file(place)
    assert failed(written(store, host, [1])), "to the segment that is gone"
    assert failed(written(store, host, [1])), "to a new one"
    place.unlink()
    assert failed(written(store, host, [1])), "in the pause"
    now[0] += 1.0
    assert kept(written(store, host, [1])) == [key(1)]
    store.close()


@pytest.mark.parametrize(
    "how", [shutil.rmtree, lambda path: path.rename(path.with_name("elsewhere"))], ids=["deleted", "moved"]
)
def test_a_directory_that_vanishes_while_it_runs(tmp_path, how):
    place = tmp_path / "cache"
    store, host = opened(place)
    written(store, host, range(10))
    how(place)
    found, news = answer(store, host, range(10))
    assert not any(found)
    assert lost(news) == {key(number) for number in range(10)}
    assert only_failure(store) is Failure.VANISHED
    news = written(store, host, range(20, 30))  # the segment that was being written is not there any more
    assert kept(news) == []
    assert kept(written(store, host, range(30, 40))) == [key(number) for number in range(30, 40)]
    assert all(read_back(store, host, range(30, 40)))
    store.close()


def test_segments_that_vanish_are_told_of_when_the_next_is_made(tmp_path):
    store, host = opened(tmp_path, 256 << 10)
    records = store._shelf.directory.layout.records
    written(store, host, range(records))
    (first,) = segments(tmp_path)
    first.unlink()
    assert lost(written(store, host, range(records, 2 * records))) == {key(number) for number in range(records)}
    assert read_back(store, host, [0, records]) == [False, True]
    store.close()


def a_directory(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


STRANGE = [a_directory, a_pipe, a_link, a_dangling_link]


@pytest.mark.parametrize("strange", STRANGE)
def test_what_only_has_the_name_of_a_segment(tmp_path, strange):
    place = tmp_path / f"kv-{7:032x}.seg"
    strange(place)
    store, host = opened(tmp_path, 256 << 10)
    assert only_failure(store) is Failure.FOREIGN
    for start in range(0, 1500, 500):  # far above the cap
        written(store, host, range(start, start + 500))
    assert read_back(store, host, [1499]) == [True]
    assert os.path.lexists(place), "it is not ours to delete"
    store.close()


@pytest.mark.parametrize("strange", STRANGE)
def test_what_takes_the_place_of_a_segment(tmp_path, strange):
    store, host = opened(tmp_path)
    written(store, host, range(5))
    (path,) = segments(tmp_path)
    path.unlink()
    strange(path)
    found, news = answer(store, host, range(5))
    assert not any(found)
    assert lost(news) == {key(number) for number in range(5)}
    assert only_failure(store) is Failure.FOREIGN
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_another_user_wrote_is_not_read(tmp_path):
    store, host = opened(tmp_path)
    written(store, host, range(5))
    store.close()
    (path,) = segments(tmp_path)
    os.chown(path, 12345, 12345)
    store, host = opened(tmp_path)
    assert store.keys() == []
    assert only_failure(store) is Failure.FOREIGN
    store.close()


def test_files_of_strangers_are_left_alone(tmp_path):
    names = ["README", "kv-.seg", "kv-zz.seg", f"kv-{1:032x}.seg.bak", f"xkv-{1:032x}.seg"]
    for name in names:
        (tmp_path / name).write_bytes(os.urandom(100_000))
    before = {name: (tmp_path / name).read_bytes() for name in names}
    store, host = opened(tmp_path, 256 << 10)
    for start in range(0, 1500, 500):
        written(store, host, range(start, start + 500))
    store.close()
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    assert not any(store.counters().failures.values())


def failing_once(call: Callable[..., int], number: int) -> Callable[..., int]:
    left = [1]

    def wrapped(*arguments: object) -> int:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return call(*arguments)

    return wrapped


def test_a_sector_that_cannot_be_read_costs_its_pages(tmp_path, monkeypatch):
    """EIO comes from a disk that breaks, and from none that a test can have."""
    store, host = opened(tmp_path)
    written(store, host, range(10))
    monkeypatch.setattr("os.preadv", failing_once(os.preadv, errno.EIO))
    found, news = answer(store, host, [0, 1, 2, 5, 6])
    assert found == [False, False, False, True, True]
    assert lost(news) == {key(0), key(1), key(2)}
    assert store.counters().failures[Failure.UNREADABLE] == 3
    store.close()


def test_too_many_open_files_are_a_miss_of_the_moment(tmp_path, monkeypatch):
    store, host = opened(tmp_path)
    written(store, host, range(10))
    monkeypatch.setattr("os.open", failing_once(os.open, errno.EMFILE))
    found, news = answer(store, host, range(10))
    assert not any(found)
    assert not lost(news)
    assert all(read_back(store, host, range(10)))
    store.close()
