"""Free pages of one layer group: superblocks as bit masks, size classes carved from them.

Law 1 (its free part): a page's bit is set exactly while nothing counts it. Coalescing needs no work:
neighbouring bits are a longer run. W is pages in a superblock.
"""

from collections.abc import Iterator
from heapq import heappop, heappush

from infergc.heap.errors import HeapCorruption
from infergc.units import ceil_div

SUPERBLOCK_TOKENS = 1024
CLASS_TOKENS = (1024, 512, 256, 128, 64)
TAIL_TOKENS = CLASS_TOKENS[-1]

Extent = tuple[int, int]  # (first page, pages)


def class_pages(page_tokens: int) -> tuple[int, ...]:
    """Run lengths in pages, longest first: the size classes, then single pages."""
    sizes = {tokens // page_tokens for tokens in CLASS_TOKENS} | {1}
    return tuple(sorted(sizes - {0}, reverse=True))


class FreeSpace:
    """Hands out runs of free pages: adjacent ones first, then from the best-fitting size class.

    Lowest addresses win ties, so the same calls give the same pages (law 10).
    """

    def __init__(self, capacity: int, page_tokens: int) -> None:
        self.capacity = capacity
        self.free = capacity
        self.classes = class_pages(page_tokens)
        self.width = self.classes[0]
        blocks = ceil_div(capacity, self.width)
        self._full = (1 << self.width) - 1
        self._aligned = [sum(1 << at for at in range(0, self.width, size)) for size in self.classes]
        self.masks = [self._full] * blocks
        if capacity % self.width:
            self.masks[-1] = (1 << capacity % self.width) - 1
        # Per class, a heap of superblocks whose longest aligned free run is of that class. Entries go
        # stale when the superblock changes class and are dropped when they surface.
        self.longest = [len(self.classes)] * blocks
        self._queues: list[list[int]] = [[] for _ in self.classes]
        self._queued = [[False] * blocks for _ in self.classes]
        for block in range(blocks):
            self._reclassify(block)

    def take(self, pages: int, after: int = -1, expect: int = 0) -> list[Extent]:
        """Take exactly ``pages`` pages; the caller made sure that ``free`` is at least that.

        Args:
            pages: how many, ≥ 0.
            after: the page before the wanted ones (a table's last page): its free neighbours go first. -1: none.
            expect: pages the owner may come to hold. New runs start where that many would fit, so that
                later growth finds its neighbours free; nothing is reserved.

        Returns:
            Extents in the order to append; neighbours are merged. Cost: O(extents + superblocks spanned).
        """
        if pages > self.free:
            raise HeapCorruption(f"law 9: take({pages}) with {self.free} pages free")
        extents: list[Extent] = []
        left = pages
        if after >= 0 and left:
            left -= self._grow(after + 1, left, extents)
        while left:
            left -= self._grow(self._start(max(left, expect)), left, extents)
        return extents

    def fits(self, pages: int, after: int, expect: int) -> bool:
        """Whether ``take`` would find adjacent pages, or else a run of the class it looks for. Cost: as take."""
        left = pages - (self._adjacent(after + 1, pages) if after >= 0 else 0)
        if not left:
            return True
        return any(self._front(index) >= 0 for index in range(self._class_of(max(left, expect)) + 1))

    def give(self, first: int, pages: int) -> None:
        """Return a run of any shape. Cost: O(superblocks spanned).

        Raises:
            HeapCorruption: a page of it is free already.
        """
        for block, bits in self._spans(first, pages):
            if self.masks[block] & bits:
                raise HeapCorruption(f"law 1: of pages {first}…{first + pages - 1} some are freed twice")
            self.masks[block] |= bits
            self._reclassify(block)
        self.free += pages

    def is_free(self, page: int) -> bool:
        """Whether nothing holds the page. Cost: O(1)."""
        block, offset = divmod(page, self.width)
        return bool(self.masks[block] >> offset & 1)

    def free_pages(self) -> list[int]:
        """Every free page, ascending, read from the masks. Cost: O(capacity)."""
        return [
            block * self.width + bit
            for block, mask in enumerate(self.masks)
            if mask
            for bit in range(self.width)
            if mask >> bit & 1
        ]

    def longest_class(self, mask: int) -> int:
        """Index of the largest size class with an aligned free run in ``mask``; len(classes) if mask is 0."""
        if mask == self._full:
            return 0
        if not mask:
            return len(self.classes)
        return next(index for index in range(len(self.classes)) if self._runs(mask, index))

    def _grow(self, first: int, want: int, extents: list[Extent]) -> int:
        """Take free pages from ``first`` on while they are adjacent, at most ``want``; append them."""
        taken = self._adjacent(first, want)
        for block, bits in self._spans(first, taken):
            self.masks[block] &= ~bits
            self._reclassify(block)
        self.free -= taken
        if taken:
            _append(extents, first, taken)
        return taken

    def _adjacent(self, first: int, want: int) -> int:
        """Free pages from ``first`` on, counted up to ``want``."""
        found, page = 0, first
        while found < want and page < self.capacity:
            block, offset = divmod(page, self.width)
            mask = self.masks[block] >> offset
            count = (mask ^ (mask + 1)).bit_length() - 1  # trailing ones
            found, page = found + count, page + count
            if offset + count < self.width:
                break
        return min(found, want)

    def _spans(self, first: int, pages: int) -> Iterator[tuple[int, int]]:
        """The (superblock, bits) that a run covers."""
        while pages:
            block, offset = divmod(first, self.width)
            count = min(pages, self.width - offset)
            yield block, ((1 << count) - 1) << offset
            first, pages = first + count, pages - count

    def _class_of(self, pages: int) -> int:
        """Index of the largest size class that so many pages fill."""
        return next(index for index, size in enumerate(self.classes) if size <= pages)

    def _start(self, want: int) -> int:
        """First page of an aligned free run: of the class that ``want`` fills, else larger, else smaller."""
        fit = self._class_of(want)
        for index in (*range(fit, -1, -1), *range(fit + 1, len(self.classes))):
            block = self._front(index)
            if block >= 0:
                starts = self._runs(self.masks[block], max(index, fit))
                return block * self.width + (starts & -starts).bit_length() - 1
        raise HeapCorruption(f"law 1: {self.free} pages are counted free, but no mask holds one")

    def _front(self, index: int) -> int:
        """Lowest superblock whose longest run is of this class, -1 if there is none."""
        queue, queued = self._queues[index], self._queued[index]
        while queue:
            if self.longest[queue[0]] == index:
                return queue[0]
            queued[heappop(queue)] = False
        return -1

    def _runs(self, mask: int, index: int) -> int:
        """Bits at which an aligned free run of the class begins."""
        length, size = 1, self.classes[index]
        while length < size:
            mask &= mask >> length
            length *= 2
        return mask & self._aligned[index]

    def _reclassify(self, block: int) -> None:
        index = self.longest[block] = self.longest_class(self.masks[block])
        if index < len(self.classes) and not self._queued[index][block]:
            self._queued[index][block] = True
            heappush(self._queues[index], block)


def _append(extents: list[Extent], first: int, pages: int) -> None:
    """Append a run, merged with the last extent where they touch."""
    if extents and sum(extents[-1]) == first:
        extents[-1] = (extents[-1][0], extents[-1][1] + pages)
    else:
        extents.append((first, pages))
