"""Lines whose file is full, torn off, rotated away or not read: they are lost and counted, and nobody waits."""

import os
import select
from pathlib import Path

import pytest

from infergc.server.observing import line_writer
from infergc.server.observing.line_writer import LineWriter
from samples.processes import run_child
from samples.servers import PATIENCE, wait_for


def lost(lines: int) -> bytes:
    return b"lost %d\n" % lines


def test_lines_come_in_order(tmp_path: Path) -> None:
    said: list[str] = []
    writer = LineWriter(tmp_path / "log", said.append, lost)
    expected = [b"%d\n" % number for number in range(5000)]
    for line in expected:
        writer.put(line)
    writer.close()
    assert (tmp_path / "log").read_bytes() == b"".join(expected)
    assert not said


def test_a_full_disk_is_said_once_and_the_log_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "log"
    log.symlink_to("/dev/full")
    writer = LineWriter(log, said.append, lost)
    for number in range(3):
        writer.put(b"%d\n" % number)
        wait_for(lambda: writer._failed == number + 1)  # noqa: B023 - at once
    log.unlink()
    writer.put(b"3\n")
    writer.close()
    assert log.read_text() == "lost 3\n3\n"
    assert said == [
        f"Error: --request-log: cannot write {log}: No space left on device; requests are served, their lines are lost",
        "The request log is written again; 3 lines of it were lost",
    ]


def test_who_does_not_read_costs_lines_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MOST_WAITING", 10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)  # its end is open to writers as well: between two batches no other one is
    writer = LineWriter(pipe, print, lost)
    writer.put(b"x" * (1 << 20) + b"\n")  # more than a pipe holds
    assert select.select([reader], [], [], PATIENCE)[0], "it is being written, and the next lines are another batch's"
    for _ in range(15):
        writer.put(b"y\n")
    with open(reader, "rb", closefd=True) as file:  # noqa: PTH123 - a descriptor
        assert len(file.readline()) == (1 << 20) + 1
        assert file.readline() == b"lost 5\n"
        assert [file.readline() for _ in range(10)] == [b"y\n"] * 10
    writer.close()


def test_long_lines_count_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MOST_BYTES", 1000)
    writer = LineWriter(tmp_path / "log", print, lost)
    writer.put(b"x" * 1000 + b"\n")
    writer.put(b"y" * 500 + b"\n")
    writer.close()
    assert (tmp_path / "log").read_bytes() == b"lost 1\n" + b"y" * 500 + b"\n"


_TORN = """
import resource, sys
from pathlib import Path
from infergc.server.observing.line_writer import LineWriter

log, said = Path(sys.argv[1]), []
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))  # a disk with room for ten bytes
writer = LineWriter(log, said.append, b"lost %d\\n".__mod__)
writer.put(b"1234567\\n")
while not log.stat().st_size:
    pass
writer.put(b"torn off\\n")
while not said:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.put(b"89\\n")
writer.close()
assert log.read_text() == "1234567\\nto\\nlost 1\\n89\\n", log.read_text()
"""


def test_after_a_line_that_was_torn_the_next_is_whole(tmp_path: Path) -> None:
    run_child(_TORN, tmp_path / "log")
