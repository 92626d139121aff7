"""Pages whose every change of hands is noted in a journal, and refused where it cannot be right."""

from infergc.heap.errors import HeapCorruption
from infergc.heap.groups import GroupSpec
from infergc.heap.journal import PageJournal
from infergc.heap.pages import Pages, page_numbers
from infergc.heap.space import Extent, FreeSpace


class WatchedSpace(FreeSpace):
    """Free space of a group that tells the journal what it gives out and takes back."""

    def __init__(self, spec: GroupSpec, page_tokens: int, journal: PageJournal, group: int) -> None:
        super().__init__(spec.capacity, page_tokens)
        self._journal = journal
        self._group = group

    def take_one(self, page: int) -> bool:
        """See FreeSpace."""
        took = super().take_one(page)
        if took:
            self._journal.taken(self._group, page, 1)
        return took

    def give(self, first: int, pages: int) -> None:
        """See FreeSpace.

        Raises:
            HeapCorruption: a page of it is free already; nothing was changed.
        """
        for page in range(first, first + pages):
            if self.is_free(page):
                raise HeapCorruption(f"law 1: freed twice: {self._journal.tell(self._group, page)}")
        super().give(first, pages)
        self._journal.freed(self._group, first, pages)

    def _grow(self, first: int, want: int, extents: list[Extent]) -> int:
        """See FreeSpace: whatever is taken is taken here or by ``take_one``."""
        taken = super()._grow(first, want, extents)
        if taken:
            self._journal.taken(self._group, first, taken)
        return taken


class WatchedPages(Pages):
    """Pages of a group; references to a page that is free are refused. Cost: O(pages) more, for each change."""

    def __init__(self, spec: GroupSpec, page_tokens: int, journal: PageJournal, group: int) -> None:
        super().__init__(spec, page_tokens)
        self.space = WatchedSpace(spec, page_tokens, journal, group)
        self._journal = journal
        self._group = group

    def retain(self, extents: list[Extent], by: int = 0) -> None:
        """See Pages.

        Raises:
            HeapCorruption: a page is free, so that whoever named it uses it after it was freed.
        """
        self._refuse_free(extents, "used after it was freed")
        super().retain(extents, by)

    def release(self, extents: list[Extent]) -> None:
        """See Pages.

        Raises:
            HeapCorruption: a page is free already.
        """
        self._refuse_free(extents, "freed twice")
        super().release(extents)

    def unseal(self, extents: list[Extent]) -> None:
        """See Pages.

        Raises:
            HeapCorruption: a page is free already.
        """
        self._refuse_free(extents, "freed twice")
        super().unseal(extents)

    def _refuse_free(self, extents: list[Extent], what: str) -> None:
        pages = page_numbers(extents)
        free = pages[self.count[pages] < 1]
        if len(free):
            raise HeapCorruption(f"law 2: {what}: {self._journal.tell(self._group, int(free[0]))}")
