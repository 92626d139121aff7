"""The host tier: pages that left the device, by the key of the prefix that they end.

A slot holds one page of every layer group. Laws, as for the device: free + cached + held + arriving = capacity (law 1);
what is claimed is never let go (law 9); a page is found by its key, and is a hit only where its token ids and the key
before it agree too (law 7). What was used least recently goes first. Whoever uses a prefix uses its last page first and
its first page last, and a page leaves the device after those that follow it: so what goes first is always an end, and
the ancestors of what stays are here or above (law 6).
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from infergc.heap.names import PageName
from infergc.heap.space import FreeSpace

_SPARE = 32  # at most one slot in so many is given up so that others lie together


class HostStats(NamedTuple):
    """Slots by state: free + cached + held + arriving = capacity."""

    capacity: int
    free: int
    cached: int
    held: int  # claimed, so not let go
    arriving: int  # being read from below


class HostTier:
    """Slots, what lies in them, and who claims it.

    Attributes:
        space: free slots.
        names: what lies in a slot or is on its way there, by slot; None in a free one.
        cached: slots by key that may be let go, the least recently used first.
        held: slots by key of what is there and claimed.
        arriving: slots by key of what is being read from below.
        claims: how many claims there are on a key. A claimed key has a slot, or one is kept for it: never more keys
            are claimed than there are slots.
        let_go: pages that went for others, running total.

    Args:
        capacity: slots.
        page_tokens: P.
    """

    def __init__(self, capacity: int, page_tokens: int) -> None:
        self.space = FreeSpace(capacity, page_tokens)
        self.names: list[PageName | None] = [None] * capacity
        self.cached: OrderedDict[bytes, int] = OrderedDict()
        self.held: dict[bytes, int] = {}
        self.arriving: dict[bytes, int] = {}
        self.claims: Counter[bytes] = Counter()
        self.let_go = 0

    # ---- finding

    def find(self, name: PageName) -> int:
        """The slot of exactly this page, -1 if it is not there. Cost: O(1)."""
        slot = self.cached.get(name.key, self.held.get(name.key, -1))
        return slot if slot >= 0 and self.names[slot] == name else -1

    def __contains__(self, key: bytes) -> bool:
        return key in self.cached or key in self.held or key in self.arriving

    def use(self, keys: Sequence[bytes]) -> None:
        """These pages of one prefix, in order, are used: the first of them most recently. Cost: O(keys)."""
        for key in reversed(keys):
            if key in self.cached:
                self.cached.move_to_end(key)

    # ---- taking in and letting go

    def room_for(self, pages: Sequence[PageName]) -> int:
        """How many of these, from the first on, can be taken in: claimed ones always, others beside what is claimed.

        Cost: O(pages).
        """
        open_slots = self.space.capacity - len(self.claims)  # for what nobody claims, beside slots kept for claims
        room = 0
        for name in pages:
            if name.key not in self.claims:
                open_slots -= 1
                if open_slots < 0:
                    break
            room += 1
        return room

    def put(self, pages: Sequence[PageName]) -> list[int]:
        """Take in pages of one prefix, in order; returns the slots of those that were not here.

        Where there is no room for all, the first of them: then the list is shorter, and whatever else may be let go is,
        since it may hang on one of the others. Cost: O(pages) amortised.
        """
        kept = pages[: self.room_for(pages)]
        here = [name.key for name in kept if name.key in self.cached]
        self.use(here)  # so that they are the last to go for the others
        fresh = [name for name in kept if name.key not in self]
        slots = self._take(fresh, len(here))
        while len(kept) < len(pages) and len(self.cached) > len(here):
            self._let_go()
        for name, slot in reversed(list(zip(fresh, slots, strict=True))):
            self._file(name.key, slot)
        return slots

    def expect(self, pages: Sequence[PageName]) -> list[int]:
        """Slots for claimed pages that are to be read from below, in order. Cost: O(pages) amortised."""
        slots = self._take(pages)
        self.arriving.update(zip((name.key for name in pages), slots, strict=True))
        return slots

    def arrived(self, key: bytes, *, well: bool) -> None:
        """What was on its way is there, or could not be read. Cost: O(1)."""
        slot = self.arriving.pop(key)
        if well:
            self._file(key, slot)
        else:
            self._free(slot)

    # ---- claims

    def claim(self, keys: Sequence[bytes]) -> bool:
        """Have these pages kept from now on, or a slot for each that is not here; False if there are too few slots.

        Claims are counted: each is to be given back once. Cost: O(keys).
        """
        claims = self.claims
        fresh = sum(1 for key in keys if key not in claims)
        if len(claims) + fresh > self.space.capacity:
            return False
        for key in keys:
            claims[key] += 1
            if claims[key] == 1 and key in self.cached:
                self.held[key] = self.cached.pop(key)
        return True

    def unclaim(self, keys: Sequence[bytes]) -> None:
        """Give claims back. Cost: O(keys)."""
        for key in reversed(keys):
            self.claims[key] -= 1
            if not self.claims[key]:
                del self.claims[key]
                if key in self.held:
                    self.cached[key] = self.held.pop(key)

    # ---- figures

    @property
    def stats(self) -> HostStats:
        """Slots by state. Cost: O(1)."""
        return HostStats(self.space.capacity, self.space.free, len(self.cached), len(self.held), len(self.arriving))

    # ---- steps of the operations above

    def _take(self, pages: Sequence[PageName], spared: int = 0) -> list[int]:
        """Slots for these pages, adjacent ones if they can be had without the pages used last, ``spared`` of them."""
        count = len(pages)
        while self.space.free < count or (len(self.cached) > spared and self._scattered(count)):
            self._let_go()
        slots = [slot for first, length in self.space.take(count) for slot in range(first, first + length)]
        for name, slot in zip(pages, slots, strict=True):
            self.names[slot] = name
        return slots

    def _let_go(self) -> None:
        _, slot = self.cached.popitem(last=False)
        self._free(slot)
        self.let_go += 1

    def _scattered(self, count: int) -> bool:
        """Whether letting go of a little more may give adjacent slots."""
        space = self.space
        return space.free * _SPARE < space.capacity and not space.fits(count, -1, count)

    def _file(self, key: bytes, slot: int) -> None:
        if key in self.claims:
            self.held[key] = slot
        else:
            self.cached[key] = slot

    def _free(self, slot: int) -> None:
        self.names[slot] = None
        self.space.give(slot, 1)
