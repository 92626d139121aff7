"""kill -9 in the middle of writes, then a restart: what was told to be written is found, bit for bit."""

import signal
from pathlib import Path
from time import sleep

from samples.disk_pages import opened, read_back, segments
from samples.processes import child

PAGE_BYTES = 40_000
CAP = 1 << 30

WRITING = f"""
import sys
from pathlib import Path
from infergc.worker.disk.news import Written
from samples.disk_pages import content, opened, page
store, host = opened(Path(sys.argv[1]), {CAP}, slots=64, page_bytes={PAGE_BYTES})
first = int(sys.argv[2])
while True:
    batch = [page(first + slot, slot) for slot in range(64)]
    for slot in range(64):
        host.slots[slot] = content(first + slot, {PAGE_BYTES})
    for one in batch:
        store.write([one])
    names = {{one.key: first + one.slot for one in batch}}
    while names:
        store.wait(10.0)
        for news in store.news():
            assert isinstance(news, Written) and not news.failed
            print(*(names.pop(key) for key in news.keys), flush=True)
    first += 64
"""


def killed_in_the_middle(directory: Path, first: int, after: float) -> set[int]:
    """The pages, from ``first`` on, that a server told of before it was killed."""
    with child(WRITING, directory, first) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        sleep(after)
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read()
        assert process.wait() == -signal.SIGKILL
    return {int(number) for number in told[: told.rfind("\n")].split()}  # it may have been killed while it told


def test_what_was_told_to_be_written_survives(tmp_path):
    """Rounds in one directory: each server finds what all before it wrote, and is killed in its turn."""
    told: set[int] = set()
    for round_, after in enumerate((0.0, 0.005, 0.013, 0.031, 0.071, 0.149)):
        told |= killed_in_the_middle(tmp_path, round_ * 100_000, after)
        store, host = opened(tmp_path, CAP, slots=len(told), page_bytes=PAGE_BYTES)
        hits = sum(read_back(store, host, sorted(told)))
        assert hits >= 0.95 * len(told)
        assert hits == len(told), "all of them, in fact: what a process wrote is the system's to keep"
        assert len(store.keys()) >= hits
        assert not any(store.counters().failures.values())
        store.close()
    assert len(segments(tmp_path)) >= 6
