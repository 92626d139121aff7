"""S3-FIFO: three first-in-first-out queues, of which a small one lets go at once of what comes only once."""

from collections import OrderedDict
from collections.abc import Sequence

from infergc.heap.marks import marks_in
from infergc.heap.nodes import U64, Node
from infergc.heap.retention import End
from infergc.policies.retention.listed import Listed, PageList, first_of, keep_newest

_SMALL, _MAIN = range(2)
_MOST_USES = 3


class S3Fifo(Listed):
    """A page begins in the small queue, S, or if its ghost is remembered in the main one, M. A use moves nothing.

    While S has its share of the pool, its oldest page leaves: to M if it was used more than once since it came, and
    else out of the cache, so that its ghost stays. Otherwise M's oldest goes; if it was used since it came to the end
    of M it comes there once more instead, with one use less, of three at most. There are as many ghosts as M has room.
    (Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023, algorithm 1.)
    In a tree the pages of one leaf that would each be moved one after the other are moved together.

    Args:
        small: share of the pool, 0 to 1.
    """

    queues = 2

    def __init__(self, small: float = 0.1) -> None:
        self._share = small

    def begin(self, pages: int, page_tokens: int) -> None:
        """Nothing is remembered."""
        super().begin(pages, page_tokens)
        self._uses: dict[int, int] = {}  # of pages in the lists that have any
        self._ghosts: PageList = OrderedDict()

    def enter(self, marks: list[int]) -> None:
        """To M what left S not long ago."""
        back = [mark for mark in marks if mark in self._ghosts]
        for mark in back:
            del self._ghosts[mark]
        self.put(_MAIN, back)
        main = self.lists[_MAIN]
        self.put(_SMALL, [mark for mark in marks if mark not in main])

    def again(self, index: int, marks: list[int]) -> None:  # noqa: ARG002 - a use moves nothing
        """Count it."""
        for mark in marks:
            self._uses[mark] = min(self._uses.get(mark, 0) + 1, _MOST_USES)

    def victim(self, ends: Sequence[End | None]) -> int | None:
        """The oldest of S or M, unless it is to be spared."""
        small_first = len(self.lists[_SMALL]) + self.coming >= self._share * self.pages
        index = first_of(ends, (_SMALL, _MAIN) if small_first else (_MAIN, _SMALL))
        end = ends[index]
        assert end is not None, "it was the first that is there"
        spared = self._spared(index, marks_in(end.node))
        self._spare(index, spared)
        return None if spared else index

    def span(self, node: Node, pages: int) -> int:
        """Pages of one list up to one that is to be spared."""
        run = self.tail(node, pages)
        index = self.where(run[0])
        return next((count for count, mark in enumerate(run) if count and self._stays(index, mark)), len(run))

    def gone(self, index: int, marks: list[int]) -> None:
        """Of what left S, the ghosts stay."""
        for mark in marks:
            self._uses.pop(mark, None)
        if index == _SMALL:
            self._ghosts.update(dict.fromkeys(marks, self.now))
            keep_newest(self._ghosts, int((1 - self._share) * self.pages))

    def _spared(self, index: int, marks: U64) -> list[int]:
        """The pages at the end of an edge that were used enough to stay, the last first. Cost: O(pages spared)."""
        spared = []
        for mark in map(int, reversed(marks)):
            if mark not in self.lists[index] or not self._stays(index, mark):
                break
            spared.append(mark)
        return spared

    def _stays(self, index: int, mark: int) -> bool:
        """Whether a page of this list was used enough: more than once in S, at all in M."""
        return self._uses.get(mark, 0) > (index == _SMALL)

    def _spare(self, index: int, marks: list[int]) -> None:
        """To the end of M: from S without what is known of their uses, from M itself with one use less."""
        self.now += 1
        self.move(index, _MAIN, marks)
        for mark in marks:
            left = self._uses.pop(mark) - 1
            if index == _MAIN and left:
                self._uses[mark] = left
