"""One system under one workload: with ample memory, in the smallest pool that does, and on the device."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from infergc.bench.scenarios.outcome import NO_LIMITS, Limits, Outcome
from infergc.bench.scenarios.smallest import THOROUGH, Care, Search, Smallest
from infergc.bench.scenarios.systems import CAUTIOUS, DEVICE, DOUBLING, MODEL, TOKEN_BYTES, Load, System
from infergc.sim.served import Progress

Tell = Callable[
    [str, int], Progress
]  # told what runs, and of how many requests; gives what to tell how many more are over
ROOM = DEVICE.room_for_kv(MODEL)  # bytes for KV that the device really has


@dataclass(frozen=True, slots=True)
class Cell:
    """What one system gave under one workload.

    Attributes:
        system: that it was.
        ample: its outcome with as much memory as it wants.
        smallest: the smallest pool that does; None where it was not looked for.
        device: its outcome with what the device has; None where that was not run.
    """

    system: System
    ample: Outcome
    smallest: Smallest | None = None
    device: Outcome | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """All of it as plain data: bytes, seconds, output tokens a second."""
        found = {"system": self.system.name, "title": self.system.title, "ample": _plain(self.ample)}
        if self.smallest is not None:
            found["smallest"] = plain_pool(self.smallest)
        if self.device is not None:
            found["device"] = {"pool_bytes": ROOM, **_plain(self.device)}
        return found


def plain_pool(smallest: Smallest) -> dict[str, Any]:
    """A smallest pool as plain data."""
    return {"pool_bytes": smallest.pool, "runs": smallest.runs, **_plain(smallest.outcome)}


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {**asdict(outcome), "throughput": outcome.throughput}


class Bench:
    """Runs systems under one workload.

    Args:
        label: of the workload, for who waits.
        load: the workload.
        tell: told of every run.
        care: how closely the smallest pools are searched.
    """

    def __init__(self, label: str, load: Load, tell: Tell, care: Care = THOROUGH) -> None:
        self.load = load
        self._care = care
        self._label, self._tell = label, tell

    def ample(self, system: System) -> Cell:
        """Run a system with as much memory as it wants."""
        return Cell(system, self._run(system, None, NO_LIMITS))

    def whole(self, system: System, near: int | None = None) -> Cell:
        """All figures of a system.

        Args:
            system: which.
            near: bytes of the smallest pool as they may be; a good guess saves runs.
        """
        cell = self.searched(system, near)
        return replace(cell, device=self._run(system, ROOM, NO_LIMITS))

    def searched(self, system: System, near: int | None = None) -> Cell:
        """As ``whole``, but not on the device."""
        ample = self._run(system, None, NO_LIMITS)
        smallest = self._smallest(system, ample, near or ample.peak_bytes // 2)
        for other in CAUTIOUS if system is DOUBLING else ():
            smallest = min(smallest, self._smallest(other, ample, smallest.pool), key=lambda found: found.pool)
        return Cell(system, ample, smallest)

    def matching(self, system: System, other: Outcome, near: int) -> Smallest:
        """The smallest pool in which a system serves as fast as another with ample memory."""
        return self._smallest(system, other, near)

    def _smallest(self, system: System, ample: Outcome, near: int) -> Smallest:
        least = self.load.longest * TOKEN_BYTES
        search = Search(lambda pool, limits: self._run(system, pool, limits), ample, least, self._care)
        return search.near(near)

    def _run(self, system: System, pool: int | None, limits: Limits) -> Outcome:
        progress = self._tell(f"{self._label}: {system.title}", len(self.load.requests))
        return system.run(self.load, pool, limits, progress)
