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

    Attributes:
        free: pages that are free.
        whole: of those, the ones in superblocks of which nothing is held.
        masks: per superblock, the bits of its free pages.
        brims: per superblock, its mask when all of it is free; the last one may have fewer pages than W.
    """

    def __init__(self, capacity: int, page_tokens: int) -> None:
        self.capacity = capacity
        self.free = self.whole = capacity
        self.classes = class_pages(page_tokens)
        self.width = self.classes[0]
        blocks = ceil_div(capacity, self.width)
        self._full = (1 << self.width) - 1
        self._lengthen = self._steps()
        shifts = [[shift for steps, _ in self._lengthen[:reach] for shift in steps]
                  for reach in range(len(self.classes), 0, -1)]  # fmt: skip
        self._climb = [(all_of, aligned) for all_of, (_, aligned) in zip(shifts, self._lengthen[::-1], strict=True)]
        # Per number of pages, the class that so many fill; per class, the classes in the order to search.
        self._class_of = [next(at for at, size in enumerate(self.classes) if size <= max(pages, 1))
                          for pages in range(self.width + 1)]  # fmt: skip
        ranks = range(len(self.classes))
        larger = [tuple(range(fit, -1, -1)) for fit in ranks]
        self._search = [(*larger[fit], *larger[fit], *range(fit + 1, len(self.classes))) for fit in ranks]
        # Per class, a heap of superblocks filed under it: none has a longer aligned free run. Taking pages leaves
        # a superblock where it is filed, and whoever finds it at the front files it anew; a search therefore goes
        # through the large classes twice, since what it files anew may lie behind it.
        self.masks = [0] * blocks
        self.filed = [len(self.classes)] * blocks
        self._queues: list[list[int]] = [[] for _ in self.classes]
        self._queued = [bytearray(blocks) for _ in self.classes]
        self.brims = [(1 << min(self.width, capacity - block * self.width)) - 1 for block in range(blocks)]
        for block in range(blocks):
            self._put(block, self.brims[block])

    @property
    def fragmentation(self) -> float:
        """Share of the free pages that lie in superblocks of which something is held, 0 to 1. Cost: O(1)."""
        return 1 - self.whole / self.free if self.free else 0.0

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
            left -= self._grow(self.start(max(expect, left)), left, extents)
        return extents

    def take_one(self, page: int) -> bool:
        """Take this page if it is there and free. Cost: O(1)."""
        if not 0 <= page < self.capacity:
            return False
        block, bit = page // self.width, 1 << page % self.width
        mask = self.masks[block]
        if not mask & bit:
            return False
        if mask == self.brims[block]:
            self.whole -= mask.bit_count()
        self.masks[block] = mask ^ bit
        self.free -= 1
        return True

    def take_run(self, first: int, pages: int) -> None:
        """Take these pages of one superblock, all of them free. Cost: O(1).

        Raises:
            HeapCorruption: they are not.
        """
        taken: list[Extent] = []
        if self._grow(first, pages, taken) != pages:
            raise HeapCorruption(f"law 1: of pages {first}…{first + pages - 1} some are not free")

    def start(self, want: int) -> int:
        """First page of an aligned free run: of the class that ``want`` fills, else larger, else smaller.

        Cost: O(1) amortised: O(log superblocks) for each one filed anew.

        Raises:
            HeapCorruption: no page is free.
        """
        fit = self._class_of[min(self.width, want)]
        for index in self._search[fit]:
            block, starts = self._front(index)
            if starts:
                starts = starts if index >= fit else self._runs(self.masks[block], fit)
                return block * self.width + (starts & -starts).bit_length() - 1
        raise HeapCorruption(f"law 1: {self.free} pages are counted free, but no mask holds one")

    def fits(self, pages: int, after: int, expect: int) -> bool:
        """Whether ``take`` would find adjacent pages, or else a run of the class it looks for. Cost: as take."""
        left = pages - (self._adjacent(after + 1, pages) if after >= 0 else 0)
        if not left:
            return True
        fit = self._class_of[min(max(left, expect), self.width)]
        return any(self._front(index)[1] for index in self._search[fit][: 2 * fit + 2])

    def give(self, first: int, pages: int) -> None:
        """Return a run of any shape. Cost: O(superblocks spanned).

        Raises:
            HeapCorruption: a page of it is free already.
        """
        page, end, width = first, first + pages, self.width
        while page < end:
            block, offset = divmod(page, width)
            count = min(end - page, width - offset)
            bits = ((1 << count) - 1) << offset
            mask = self.masks[block]
            if mask & bits:
                raise HeapCorruption(f"law 1: of pages {first}…{end - 1} some are freed twice")
            self._put(block, mask | bits)
            if mask | bits == self.brims[block]:
                self.whole += self.brims[block].bit_count()
            page += count
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
        found = len(self.classes)
        for shifts, aligned in self._lengthen:
            for shift in shifts:
                mask &= mask >> shift
            mask &= aligned
            if not mask:
                break
            found -= 1
        return found

    def _steps(self) -> list[tuple[list[int], int]]:
        """How to get from the starts of aligned free runs of one class to those of the next larger one.

        Per class, smallest first: what to shift the mask by, each time keeping the bits that both have, and the
        bits at which a run of the class may start.
        """
        steps, length = [], 1
        for size in reversed(self.classes):
            shifts = []
            while length < size:
                shifts.append(length)
                length *= 2
            steps.append((shifts, sum(1 << at for at in range(0, self.width, size))))
        return steps

    def _grow(self, first: int, want: int, extents: list[Extent]) -> int:
        """Take free pages from ``first`` on while they are adjacent, at most ``want``; append them."""
        page, end, width = first, min(first + want, self.capacity), self.width
        while page < end:
            block, offset = divmod(page, width)
            run = self.masks[block] >> offset
            count = min((run ^ (run + 1)).bit_length() - 1, end - page)  # trailing ones
            if count:
                if self.masks[block] == self.brims[block]:
                    self.whole -= self.brims[block].bit_count()
                self.masks[block] ^= ((1 << count) - 1) << offset
                page += count
            if offset + count < width:
                break
        taken = page - first
        self.free -= taken
        if taken:
            append_run(extents, first, taken)
        return taken

    def _adjacent(self, first: int, want: int) -> int:
        """Free pages from ``first`` on, counted up to ``want``."""
        found, page = 0, first
        while found < want and page < self.capacity:
            block, offset = divmod(page, self.width)
            run = self.masks[block] >> offset
            count = (run ^ (run + 1)).bit_length() - 1
            found, page = found + count, page + count
            if offset + count < self.width:
                break
        return min(found, want)

    def _front(self, index: int) -> tuple[int, int]:
        """Lowest superblock filed under this class, and the bits at which runs of it begin: 0 if there is none."""
        queue = self._queues[index]
        while queue:
            block = queue[0]
            if self.filed[block] == index:
                mask = self.masks[block]
                starts = self._runs(mask, index)
                if starts:
                    return block, starts
                self._put(block, mask)
            self._queued[index][heappop(queue)] = False
        return -1, 0

    def _runs(self, mask: int, index: int) -> int:
        """Bits at which an aligned free run of the class begins."""
        shifts, aligned = self._climb[index]
        if mask == self._full:
            return aligned
        for shift in shifts:
            mask &= mask >> shift
        return mask & aligned

    def _put(self, block: int, mask: int) -> None:
        """Set a superblock's mask and file it under its class."""
        self.masks[block] = mask
        index = self.longest_class(mask) if mask else len(self.classes)
        if index != self.filed[block]:
            self.filed[block] = index
            if index < len(self.classes) and not self._queued[index][block]:
                self._queued[index][block] = True
                heappush(self._queues[index], block)


def runs_in(mask: int) -> Iterator[Extent]:
    """The runs of set bits as (first bit, bits), lowest first. Cost: O(runs)."""
    at = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        length = (mask ^ (mask + 1)).bit_length() - 1  # trailing ones
        yield at + skip, length
        mask >>= length
        at += skip + length


def append_run(extents: list[Extent], first: int, pages: int) -> None:
    """Append a run, merged with the last extent where they touch. Cost: O(1)."""
    if extents and sum(extents[-1]) == first:
        extents[-1] = (extents[-1][0], extents[-1][1] + pages)
    else:
        extents.append((first, pages))
