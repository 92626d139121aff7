"""What this process holds in memory, as the system counts it: resident bytes, by kind, and their peak."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from infergc.units import KIB

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESTART_PEAK = "5"  # proc_pid_clear_refs(5): the peak is reset to what is resident now
_POLL_SECONDS = 0.001
_REFRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of physical memory: ``resident`` is the sum of the next three.

    Attributes:
        resident: all of it (``VmRSS``), libraries mapped from files included: other processes that map the same
            libraries share those, but a machine that runs one engine needs them in full.
        private: heap and stacks (``RssAnon``).
        files: pages of mapped files, mostly code of libraries (``RssFile``).
        shared: shared mappings without a file, of which KV storage is made (``RssShmem``).
        peak: the most that was resident (``VmHWM``) since start or since the peak was last restarted.
    """

    resident: int
    private: int
    files: int
    shared: int
    peak: int


def machine_memory() -> int:
    """Bytes of physical memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def footprint(status: Path = _STATUS) -> Footprint:
    """Read it: some 30 microseconds.

    Raises:
        OSError: the system keeps no such account.
    """
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())

    def read(name: str) -> int:
        return int(lines.get(name, "0").split()[0]) * KIB

    resident = read("VmRSS")
    return Footprint(resident, read("RssAnon"), read("RssFile"), read("RssShmem"), max(read("VmHWM"), resident))


@dataclass(slots=True)
class Peak:
    """The most private memory that was resident during a ``watched_peak``; known when that ends."""

    private: int = 0


@contextmanager
def watched_peak(clear: Path = _CLEAR) -> Iterator[Peak]:
    """Measure the peak of private memory while the block runs.

    The system's own peak is restarted and read; where that is not allowed, a thread looks a thousand times a
    second. The system's peak is of all resident memory: files and shared mappings are taken off as they are at
    the end, so what the block adds to those counts as there from the start.
    """
    peak = Peak()
    try:
        clear.write_text(_RESTART_PEAK, encoding="ascii")
    except OSError:
        with _polled(peak):
            yield peak
        return
    yield peak
    now = footprint()
    peak.private = max(now.private, now.peak - now.files - now.shared)


@contextmanager
def _polled(peak: Peak) -> Iterator[None]:
    over = Event()

    def look() -> None:
        while not over.wait(_POLL_SECONDS):
            peak.private = max(peak.private, footprint().private)

    peak.private = footprint().private
    watcher = Thread(target=look, name="infergc-memory", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        peak.private = max(peak.private, footprint().private)


class ProcessGauge:
    """The footprint for metrics, read once a second while nothing asks for it afresh."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._latest: dict[str, int] = {}

    def latest(self, *, afresh: bool = False) -> dict[str, int]:
        """Bytes: ``resident``, ``peak`` and ``kv``, the part of KV storage that was ever written.

        Args:
            afresh: read even if the last reading is young: none follows for some time.
        """
        now = time.monotonic()
        if afresh or now - self._read_at >= _REFRESH_SECONDS:
            self._read_at, held = now, footprint()
            self._latest = {"resident": held.resident, "peak": held.peak, "kv": held.shared}
        return self._latest
