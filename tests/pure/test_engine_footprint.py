"""The process's memory as the system counts it: its parts, its peak, and both ways to watch that."""

import mmap
import time
from pathlib import Path

import pytest

from infergc.engine.footprint import ProcessGauge, footprint, watched_peak
from infergc.units import MIB

SIZE = 64 * MIB
NOWHERE = "/nowhere/clear_refs"  # where the system does not let its peak be restarted


def fresh_block() -> mmap.mmap:
    """Private memory of ``SIZE``, written: from the system, for the heap of a long process may have it resident."""
    block = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for _ in range(0, SIZE, MIB):
        block.write(b"x" * MIB)
    return block


def test_the_parts_are_the_whole():
    held = footprint()
    assert held.resident == held.private + held.files + held.shared
    assert 10 * MIB < held.resident <= held.peak


def test_a_shared_mapping_counts_when_it_is_written_and_apart():
    before = footprint()
    mapping = mmap.mmap(-1, SIZE)
    assert footprint().shared - before.shared < MIB
    mapping.write(bytes(SIZE // 2))
    after = footprint()
    assert abs(after.shared - before.shared - SIZE // 2) < MIB
    mapping.close()
    assert footprint().shared - before.shared < MIB


@pytest.mark.parametrize("clear", ["/proc/self/clear_refs", NOWHERE])
def test_a_peak_is_seen_that_is_over_at_the_end(clear: str):
    before = footprint().private
    with watched_peak(Path(clear)) as peak:
        block = fresh_block()
        end = time.monotonic() + 60
        while clear == NOWHERE and peak.private - before < SIZE * 0.95 and time.monotonic() < end:
            time.sleep(0.01)  # until the thread has looked
        block.close()
    assert footprint().private - before < SIZE // 2
    assert SIZE * 0.95 < peak.private - before < SIZE * 1.5


def test_an_earlier_peak_does_not_count():
    fresh_block().close()
    before = footprint().private
    with watched_peak() as peak:
        pass
    assert peak.private - before < SIZE // 2


def test_the_gauge_reads_once_in_a_while(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("infergc.engine.footprint.time.monotonic", lambda: now)
    gauge = ProcessGauge()
    first = gauge.latest()
    assert first.keys() == {"resident", "peak", "kv"}
    assert 0 < first["resident"] <= first["peak"]
    assert gauge.latest() is first
    now += 1.0
    assert gauge.latest() is not first
