"""The disk tier, as the heap sees it: what lies there, what is to be written and read, and through which host slots.

Bytes are moved by jobs, which are handed over when every step planned before has landed, since its moves touch the same
slots. What came of them comes back as an input of the run (law 10).
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from infergc.heap.host import HostTier
from infergc.heap.jobs import Job
from infergc.heap.names import PageName
from infergc.heap.nodes import Node

_WRITING = 8  # at most one slot in so many waits to be written


@dataclass(slots=True)
class DiskCounters:
    """Running totals since start, in pages, counted once for all layer groups.

    Attributes:
        written, read: to and from disk.
        unwritten, unread: could not be.
        lost: were there, and are not any more.
    """

    written: int = 0
    read: int = 0
    unwritten: int = 0
    unread: int = 0
    lost: int = 0


class Found(NamedTuple):
    """Pages of a stream that can be read.

    Attributes:
        names: which, in order.
        skipped: pages among them or before them that the host has.
        reading: the number of the read under way that brings the page behind them, None if there is none.
    """

    names: list[PageName]
    skipped: int
    reading: int | None = None


class DiskTier:
    """What is on disk, as far as news tells.

    Attributes:
        keys: of pages that can be read.
        writing: pages that are being written.
        reading: pages that are being read, with the number of the read.
        counters: what was done.

    Args:
        host: through whose slots pages come and go.
        unsaved: nodes of the prefix tree with pages that were not written, see ``PrefixTree.unsaved``.
    """

    def __init__(self, host: HostTier, unsaved: dict[int, Node]) -> None:
        self.keys: set[bytes] = set()
        self.writing: set[bytes] = set()
        self.reading: dict[bytes, int] = {}
        self.counters = DiskCounters()
        self._host = host
        self._unsaved = unsaved
        # Left the device before they were written. Of more than the host holds, the oldest are there no longer.
        self._demoted: deque[PageName] = deque(maxlen=host.space.capacity)
        self._reads: dict[int, tuple[PageName, ...]] = {}
        self._jobs: deque[Job] = deque()
        self._begun = 0

    @property
    def reads(self) -> Mapping[int, tuple[PageName, ...]]:
        """The reads under way: which pages each brings."""
        return self._reads

    @property
    def waiting_jobs(self) -> int:
        """Jobs that wait for a step to land."""
        return len(self._jobs)

    @property
    def is_busy(self) -> bool:
        """Whether pages are being read or written."""
        return bool(self.writing or self.reading)

    @property
    def can_save(self) -> bool:
        """Whether there are pages to be written, and the host has room for one."""
        has_room = len(self._host.claims) < self._host.space.capacity
        return bool(self._unsaved or self._demoted) and has_room and self._may_write(0)

    def waits_for(self, step: int) -> bool:
        """Whether jobs wait for this step, or for a later one. Cost: O(1)."""
        return bool(self._jobs) and self._jobs[-1].after >= step

    def jobs(self, completed: int) -> list[Job]:
        """What is to be done now that steps up to this one have landed. Cost: O(jobs)."""
        found: list[Job] = []
        while self._jobs and self._jobs[0].after <= completed:
            found.append(self._jobs.popleft())
        return found

    # ---- reading

    def find(self, stream: Iterable[PageName]) -> Found:
        """What the disk has of a stream, up to the first page that it lacks and the host does too.

        Cost: about 3 µs a page found.
        """
        names: list[PageName] = []
        skipped = 0
        for name in stream:
            if self._host.find(name) >= 0:
                skipped += 1
            elif name.key in self.keys and name.key not in self._host:
                names.append(name)
            else:
                return Found(names, skipped, self.reading.get(name.key))
        return Found(names, skipped)

    def read(self, names: Sequence[PageName], step: int) -> int | None:
        """Begin to read pages that ``find`` found; the number of the read, None where the host has no room.

        Where it has not enough for all, the first of them are read. They are claimed until they are there.

        Args:
            names: which.
            step: the last that has moves to slots which may be taken for them.

        Cost: O(pages).
        """
        names = names[: self._host.space.capacity - len(self._host.claims)]
        if not (names and self._host.claim([name.key for name in names])):
            return None
        slots = self._host.expect(names)
        self._begun += 1
        self._reads[self._begun] = tuple(names)
        self.reading.update((name.key, self._begun) for name in names)
        self._jobs.append(Job(self._begun, step, tuple(zip(names, slots, strict=True))))
        return self._begun

    def has_read(self, number: int, found: Sequence[bool]) -> list[bytes]:
        """A read is over: which pages are there now. Returns the keys claimed for it, which are the caller's now."""
        pages = self._reads.pop(number)
        for name, well in zip(pages, found, strict=True):
            del self.reading[name.key]
            self._host.arrived(name.key, well=well)
            if not well:
                self.keys.discard(name.key)
        self.counters.read += sum(found)
        self.counters.unread += len(found) - sum(found)
        return [name.key for name in pages]

    # ---- writing

    def is_saved(self, name: PageName) -> bool:
        """Whether a page is on disk, or on its way there."""
        return name.key in self.keys or name.key in self.writing

    def demoted(self, names: Iterable[PageName]) -> None:
        """Pages have left the device for the host."""
        self._demoted.extend(name for name in names if not self.is_saved(name))

    def next_unsaved(self, budget: int) -> tuple[Node, int, int] | None:
        """Pages of the tree to be written next, as a node and its pages from … to; None if there are none."""
        node = next(iter(self._unsaved.values()), None)
        return None if node is None else (node, node.saved, min(node.length, node.saved + budget))

    def accept(self, names: Sequence[PageName]) -> tuple[list[int], int]:
        """Claim those of these pages that are to be written.

        Returns:
            Their places in ``names``; and how many of ``names`` were looked at, before there was no room.
        """
        due: list[int] = []
        for at, name in enumerate(names):
            if self.is_saved(name) or (name.key in self._host and self._host.find(name) < 0):
                continue
            if not (self._may_write(len(due)) and self._host.claim([name.key])):
                return due, at
            due.append(at)
        return due, len(names)

    def save(self, node: Node, end: int) -> None:
        """Writing a node's pages before number ``end`` is under way. Cost: O(1)."""
        node.saved = end
        if end == node.length:
            del self._unsaved[node.id]

    def save_demoted(self, budget: int, step: int) -> int:
        """Have pages written that are in the host tier alone; returns how many were looked at. Cost: O(budget)."""
        work, due = 0, list[PageName]()
        while self._demoted and work < budget and self._may_write(0):
            name = self._demoted.popleft()
            work += 1
            if not self.is_saved(name) and self._host.find(name) >= 0 and self._host.claim([name.key]):
                self.writing.add(name.key)  # at once: it may have left the device more than once
                due.append(name)
        self.write(due, step)
        return work

    def write(self, names: Sequence[PageName], step: int) -> None:
        """Have claimed pages written from their slots once this step has landed. Cost: O(pages)."""
        if names:
            self.writing.update(name.key for name in names)
            self._jobs.append(Job(-1, step, tuple((name, self._host.find(name)) for name in names)))

    def has_written(self, keys: Sequence[bytes], *, well: bool) -> None:
        """Pages were written, or could not be; or they were found on disk at start. Cost: O(pages)."""
        mine = [key for key in keys if key in self.writing]
        self.writing.difference_update(mine)
        self._host.unclaim(mine)
        if well:
            self.keys.update(keys)
            self.counters.written += len(mine)
        else:
            self.counters.unwritten += len(mine)

    def lost(self, keys: Sequence[bytes]) -> None:
        """Pages are on disk no longer. Cost: O(pages)."""
        self.counters.lost += len(self.keys.intersection(keys))
        self.keys.difference_update(keys)

    def _may_write(self, more: int) -> bool:
        return len(self.writing) + more < max(1, self._host.space.capacity // _WRITING)
