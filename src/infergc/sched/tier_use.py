"""What requests have of the tiers below the device: who gives way is kept there, and prompts are read from there.

Every choice weighs seconds, and these are learnt from inputs of the run: what steps took, what copies took, what reads
took (law 10). Of what is not known yet the optimistic is assumed: a transfer costs nothing until one was measured.
"""

import logging
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple, Protocol

from infergc.heap.disk import DiskTier
from infergc.heap.heap import Heap
from infergc.heap.names import PageName
from infergc.heap.objects import Sequence
from infergc.sched.request import Request
from infergc.sched.step_times import StepTimes

_log = logging.getLogger(__name__)

_SAVED_A_STEP = 32  # pages at most that a step copies for the disk
_PATIENCE = 2  # seconds that a read may take in any case, and times what computing takes that it may take besides
_FADE = 0.99  # what is left of an estimate each time that it keeps from a transfer
_MEMORY = 0.9  # what each transfer leaves of the weight of those before it


class Ways(NamedTuple):
    """What two ways to the same KV would cost, in seconds; 0.0 where nothing is known.

    Attributes:
        transfer: to copy it.
        compute: to compute it.
    """

    transfer: float
    compute: float


class Preferring(Protocol):
    """Which way KV is had."""

    def transfers(self, ways: Ways) -> bool:
        """Whether it is copied rather than computed."""
        ...


class Rate:
    """Seconds a byte, over the transfers of late.

    Attributes:
        size_so_far, seconds_so_far: of all transfers since the start.
    """

    def __init__(self) -> None:
        self.size_so_far, self.seconds_so_far = 0, 0.0
        self._size = self._seconds = 0.0

    def learn(self, size: int, seconds: float) -> None:
        """So many bytes took so long. Cost: O(1)."""
        self.size_so_far += size
        self.seconds_so_far += seconds
        if size > 0 and seconds > 0:
            self._size = _MEMORY * self._size + size
            self._seconds = _MEMORY * self._seconds + seconds

    def fade(self) -> None:
        """It was too slow to be used: so little is forgotten of it that it is tried again some time. Cost: O(1)."""
        self._seconds *= _FADE

    def seconds(self, size: int) -> float:
        """How long so many bytes will take; 0.0 while nothing is known."""
        return size * self._seconds / self._size if self._size else 0.0


class TierUse:
    """Between the scheduler and the tiers.

    Attributes:
        copying, reading: what it takes between device and host, and from the disk.
        swapped, recomputed: victims whose KV was kept, and those whose was not; running totals.

    Args:
        heap: has tiers.
        times: what computing takes.
        swaps: decides for a request that gives way.
        loads: decides for a prompt that is found below.
        most: tokens to be restored at once.
    """

    def __init__(self, heap: Heap, times: StepTimes, swaps: Preferring, loads: Preferring, most: int) -> None:
        assert heap.tiers is not None, "there are no tiers to use"
        self.copying, self.reading = Rate(), Rate()
        self.swapped = self.recomputed = 0
        self._heap = heap
        self._tiers = heap.tiers
        self._times = times
        self._swaps = swaps
        self._loads = loads
        self._most = max(1, most // heap.page_tokens)
        self._page_bytes = sum(pages.spec.page_bytes for pages in heap.groups)
        self._waiters: dict[int, list[Request]] = {}  # by number of a read
        self._limits: dict[int, int] = {}  # by number of a read, when it takes too long
        self._late: set[int] = set()  # reads that took too long and are not over
        self._now = 0
        self._claimants: dict[Request, None] = {}  # those with a claim, in order of their first

    @property
    def waiters(self) -> int:
        """Requests that wait for a read. Cost: O(reads)."""
        return sum(map(len, self._waiters.values()))

    @property
    def loading(self) -> list[Request]:
        """The requests that wait for a read. Cost: O(requests)."""
        return [request for requests in self._waiters.values() for request in requests]

    @property
    def claims(self) -> Iterator[tuple[str, SequenceOf[bytes]]]:
        """The requests for which pages are kept, and the keys of those: they gave way, or waited for a read."""
        return ((request.id, request.claim) for request in self._claimants)

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to copy and nobody waits for a read. Cost: O(reads)."""
        disk = self._tiers.disk
        return not (self._heap.moves or self._waiters or (disk is not None and self._has_jobs(disk)))

    def plan_copies(self) -> bool:
        """Choose what the step being planned copies for the disk; whether a step is needed though it computes nothing.

        Cost: O(pages chosen).
        """
        self._tiers.save(_SAVED_A_STEP, self._heap.planning)
        if not self._heap.moves:
            self._tiers.planned()  # there may be no step now, and nothing of what was found below is to be copied
        disk = self._tiers.disk
        return bool(self._heap.moves) or (disk is not None and disk.waits_for(self._heap.planning))

    def _has_jobs(self, disk: DiskTier) -> bool:
        return disk.can_save or disk.waits_for(self._heap.planning)

    # ---- requests that give way

    def keep(self, request: Request, sequence: Sequence) -> None:
        """A request gives way: have its published pages kept, if they are sooner copied there and back than computed.

        Cost: O(pages).
        """
        tokens = sequence.sealed * self._heap.page_tokens
        ways = Ways(2 * self.copying.seconds(sequence.sealed * self._page_bytes), self._times.prefill(0, tokens))
        kept = self._chosen(self._swaps, ways, self.copying) and self._claim(request, self._heap.claim(sequence))
        self.swapped, self.recomputed = self.swapped + kept, self.recomputed + (not kept)
        _log.info(
            "request %s gives way with %d tokens computed: %s (estimates: %.2g s to copy them there and back, %.2g s "
            "to compute them)",
            request.id, tokens, "swapped" if kept else "to be recomputed", *ways,
        )  # fmt: skip

    def release(self, request: Request) -> None:
        """A request runs again, or has ended: nothing is kept for it any more. Cost: O(pages)."""
        if request.claim:
            self._heap.unclaim(request.claim)
            request.claim = []
            del self._claimants[request]

    # ---- prompts that are found below

    def find(self, request: Request) -> list[PageName]:
        """Pages that the host has of a request behind those of the device, if they are sooner copied than computed.

        What was kept for the request is copied in any case: that was weighed when it gave way.
        Cost: as ``Heap.below``.
        """
        request.restored = 0
        pages, names = self._heap.below(request.namespace, request.tokens.view()[: request.reusable])
        first, count = pages * self._heap.page_tokens, len(names) * self._heap.page_tokens
        ways = Ways(self.copying.seconds(len(names) * self._page_bytes), self._times.prefill(first, first + count))
        return names if not names or request.claim or self._chosen(self._loads, ways, self.copying) else []

    def restore(self, request: Request, sequence: Sequence, names: SequenceOf[PageName], cached: int) -> int:
        """Give a sequence what ``find`` found, unless it has more without; tokens whose KV need not be computed.

        Cost: as ``Heap.restore``.
        """
        gained = (sequence.sealed + len(names)) * self._heap.page_tokens - cached
        if gained <= 0 or not self._heap.continues(sequence, names):  # a fork has what others published otherwise
            return cached
        total = self._heap.restore(sequence, names, self._most)
        request.restored = max(0, total - cached)
        return total

    def seek(self, request: Request) -> bool:
        """Have what the disk has of a request read, if that is sooner than to compute it; whether it is to wait for it.

        Cost: O(tokens), and about 3 µs for each page found.
        """
        disk, size = self._tiers.disk, self._heap.page_tokens
        if disk is None or self._late or not (disk.keys or disk.reading):
            return False
        pages, stream = self._heap.stream(request.namespace, request.tokens.view()[: request.reusable])
        found = disk.find(stream)
        number = found.reading
        if found.names:
            end = (pages + found.skipped + len(found.names)) * size
            ways = Ways(
                self.reading.seconds((len(found.names) + len(disk.reading)) * self._page_bytes),
                self._times.prefill(end - len(found.names) * size, end),
            )
            is_sooner = self._chosen(self._loads, ways, self.reading)
            number = disk.read(found.names, self._heap.touching) if is_sooner else None
            if number is not None:
                self._limits[number] = self._now + _PATIENCE + int(_PATIENCE * ways.compute)
        if number is None:
            return False
        self._waiters.setdefault(number, []).append(request)
        return True

    def has_read(self, number: int, found: SequenceOf[bool], size: int, seconds: float) -> list[Request]:
        """A read is over; returns the requests that waited for it. What it brought is kept for them.

        Args:
            number: of the read.
            found: by page whether it could be read.
            size: bytes read.
            seconds: that it took.
        """
        assert self._tiers.disk is not None
        self.reading.learn(size, seconds)
        self._limits.pop(number, None)
        self._late.discard(number)
        keys = self._tiers.disk.has_read(number, found)
        waiters = self._waiters.pop(number, [])
        there = keys[: next((at for at, well in enumerate(found) if not well), len(found))]
        for request in waiters:
            if self._claim(request, there if there and self._tiers.host.claim(there) else None):
                request.read += len(there) * self._heap.page_tokens
        self._heap.unclaim(keys)
        return waiters

    def forget(self, request: Request) -> None:
        """A request that waited for a read does so no longer. Cost: O(requests that wait)."""
        left = {
            number: [each for each in requests if each is not request] for number, requests in self._waiters.items()
        }
        self._waiters = {number: requests for number, requests in left.items() if requests}

    def tick(self, now: int) -> list[Request]:
        """The time is ``now``, in seconds; returns requests that have waited too long for a read, to wait no longer.

        That is twice what it was to take to compute what is read, and two seconds. Until such a read is over, after
        all, nobody waits for the disk. Cost: O(reads).
        """
        self._now = now
        late = [number for number, limit in self._limits.items() if now > limit]
        for number in late:
            del self._limits[number]
        self._late.update(late)
        return [request for number in late for request in self._waiters.pop(number, ())]

    def _chosen(self, policy: Preferring, ways: Ways, rate: Rate) -> bool:
        """Whether KV is copied; where it is not, for copying was slow of late, that is tried again some time."""
        chosen = policy.transfers(ways)
        if not chosen:
            rate.fade()
        return chosen

    def _claim(self, request: Request, keys: list[bytes] | None) -> bool:
        if keys is None:
            return False
        request.claim = [*request.claim, *keys]
        self._claimants[request] = None
        return True
