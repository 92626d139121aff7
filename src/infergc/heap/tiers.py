"""Below the device: what the prefix tree lets go is demoted to the host tier, and comes back when it is asked for.

The heap decides and plans; bytes are moved by the step being planned (``Move`` "store" and "load"), in that order.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from infergc.heap.disk import DiskTier
from infergc.heap.host import HostTier
from infergc.heap.keys import keys_in
from infergc.heap.moves import I32, Move
from infergc.heap.names import PageName, names_in
from infergc.heap.nodes import Node

_AHEAD = 64  # pages at most that are demoted together with those that have to go


@dataclass(slots=True)
class TierCounters:
    """Running totals since start, in pages, counted once for all layer groups.

    Attributes:
        demoted: copied from device to host because the tree let them go, or would soon.
        spared: let go by the tree when the host had them already.
        dropped: let go by the tree for good: the host had no room.
        promoted: copied from host to device for a request.
        saved: copied from device to host to be written to disk.
        copies: runs in which these were copied.
    """

    demoted: int = 0
    spared: int = 0
    dropped: int = 0
    promoted: int = 0
    saved: int = 0
    copies: int = 0


class Tiers:
    """The tiers below the device.

    Attributes:
        host: slots and what lies in them.
        disk: what lies there; None without a disk tier.
        counters: what was done.

    Args:
        host, disk: see above.
        plan_move: adds a move to the step being planned.
        page_tokens: P.
    """

    def __init__(
        self, host: HostTier, disk: DiskTier | None, plan_move: Callable[[Move], None], page_tokens: int
    ) -> None:
        self.host = host
        self.disk = disk
        self.counters = TierCounters()
        self._plan_move = plan_move
        self._page_tokens = page_tokens
        self._read: list[bytes] = []  # claimed until the step is planned that reads them

    @property
    def restoring(self) -> Sequence[bytes]:
        """Keys of pages that the step being planned may copy to the device: claimed until it is planned."""
        return self._read

    # ---- demotion

    def demote(self, leaf: Node, pages: int) -> None:
        """The tree lets go of the leaf's last ``pages`` pages now: the finalizer of reclaim.

        Up to 64 pages before them are copied along, where the host has room: they are next, and one long run of
        neighbours takes less than many short ones. When they go, they are there already.
        Cost: O(pages), about 3 µs each, and 2 µs a move.
        """
        low = leaf.length - pages
        ahead = _AHEAD if any(key not in self.host for key in keys_in(leaf)[low:]) else 0  # else it was copied along
        first = max(0, low - ahead)
        names = list(names_in(leaf, first, leaf.length))
        if self.host.room_for(names) < len(names):
            names, first = names[low - first :], low
        going = names[low - first :]
        self.counters.spared += sum(name.key in self.host for name in going)
        fresh = [at for at, name in enumerate(names) if name.key not in self.host]
        self.counters.demoted += self._store(leaf, first, fresh, self.host.put(names))
        self.host.use([name.key for name in names if name.key in self.host])
        self.counters.dropped += sum(name.key not in self.host for name in going)
        if self.disk is not None:
            self.disk.demoted(going)

    # ---- promotion

    def below(self, stream: Iterable[PageName]) -> list[PageName]:
        """The pages that the host has of a stream, up to the first it lacks, or has no room to keep.

        They are claimed until the step being planned has been planned: ``restore`` may be called for them.
        Cost: O(pages found), about 3 µs each.
        """
        found: list[PageName] = []
        for name in stream:
            if self.host.find(name) < 0 or not self.host.claim([name.key]):
                break
            found.append(name)
        self._read += [name.key for name in found]
        return found

    def restore(self, names: Sequence[PageName], columns: Sequence[I32]) -> None:
        """Plan to copy pages that ``below`` found to these device pages, one array a layer group. Cost: O(pages)."""
        slots = np.array([self.host.find(name) for name in names], np.int32)
        for group, pages in enumerate(columns):
            self._copy("load", group, pages, slots)
        self.counters.promoted += len(names)

    def planned(self) -> None:
        """The moves of the step being planned were taken: what it reads may be let go after it. Cost: O(pages)."""
        if self._read:
            self.host.unclaim(self._read)
            self._read = []

    # ---- claims

    def claim(self, path: Sequence[Node]) -> list[bytes] | None:
        """Have the pages of these nodes, from below a root on, kept in some tier; their keys. None: there is no room.

        Cost: O(pages), and as ``keys_in``.
        """
        keys = [key for node in path for key in keys_in(node)]
        return keys if self.host.claim(keys) else None

    # ---- saving to disk

    def save(self, budget: int, step: int) -> int:
        """Have up to so many pages written to disk: those that left the device first, then the first published.

        Args:
            budget: pages.
            step: the one being planned.

        Returns:
            Pages looked at; 0 when there is nothing to do, or no room for it now. Cost: O(pages).
        """
        disk = self.disk
        if disk is None:
            return 0
        work = disk.save_demoted(budget, step)
        while work < budget and (found := disk.next_unsaved(budget - work)) is not None:
            node, first, end = found
            names = list(names_in(node, first, end))
            due, seen = disk.accept(names)
            fresh = [at for at in due if names[at].key not in self.host]
            self.counters.saved += self._store(node, first, fresh, self.host.put([names[at] for at in fresh]))
            disk.write([names[at] for at in due], step)
            disk.save(node, first + seen)
            work += seen
            if seen < len(names):
                break
        return work

    # ---- steps of the operations above

    def _store(self, node: Node, first: int, places: Sequence[int], slots: Sequence[int]) -> int:
        """Copy pages of a node to the host; how many there was room for.

        Args:
            node: whose pages.
            first: the page from which places count.
            places: of those to copy.
            slots: for the first of them.
        """
        at = np.array(places[: len(slots)], np.intp) + first
        for group, column in enumerate(node.pages):
            self._copy("store", group, column.view()[at], np.array(slots, np.int32))
        return len(slots)

    def _copy(self, kind: Literal["store", "load"], group: int, pages: I32, slots: I32) -> None:
        """Plan copies between device pages and host slots, run by run: neighbours on both sides go together."""
        if not len(pages):
            return
        cuts = np.flatnonzero((np.diff(pages) != 1) | (np.diff(slots) != 1)) + 1
        for low, high in pairwise([0, *cuts.tolist(), len(pages)]):
            page, slot = int(pages[low]), int(slots[low])
            source, target = (page, slot) if kind == "store" else (slot, page)
            self._plan_move(Move(kind, group, source, target, self._page_tokens, high - low))
        self.counters.copies += len(cuts) + 1 if group == 0 else 0
