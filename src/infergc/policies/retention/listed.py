"""What the policies of the literature share: the cached pages in lists, as those were drawn up for blocks of a cache.

They know pages that come one at a time and leave from wherever they stand. Here a prompt's pages come together, of
which some are there already, and only the end of an idle leaf can leave. So a leaf stands where its last page does;
of a prompt's pages the deeper count as the older; and what a prompt displaces, before ``asked`` tells of it, counts as
room for pages of the kind that ``coming`` says.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import takewhile

from infergc.heap.marks import marks_in, marks_of_prompt
from infergc.heap.nodes import I32, U64, Namespace, Node
from infergc.heap.retention import End, Retention

PageList = OrderedDict[int, int]  # a page's mark → when it came to the list; the first came longest ago

_MOST = 2  # pools of pages in the lists: those that are cached, and some that were asked for and came to nothing
_NOWHERE = -1


class Listed(Retention):
    """Keeps the lists, one for each queue. Memory: about 220 bytes a page in them.

    A policy says what becomes of pages that are new (``enter``) or were asked for again (``again``), what of the lists
    thereafter (``settle``), which end goes (``victim``), and what is remembered of what went (``gone``). It is told of
    many pages at once, the deepest first.

    Attributes:
        pages: the pool's.
        lists: by queue.
        now: counts prompts, and whatever else puts pages at the end of a list.
        coming: pages reclaimed since the last prompt was asked for: so many of the next are in no list yet.
    """

    eager = True  # so that text that was generated is in a list as soon as it is idle
    pages: int
    lists: list[PageList]
    now: int
    coming: int

    def begin(self, pages: int, page_tokens: int) -> None:
        """All lists are empty."""
        self.pages, self._page_tokens = pages, page_tokens
        self.lists = [OrderedDict() for _ in range(self.queues)]
        self.now = self.coming = 0

    def asked(self, namespace: Namespace, prompt: I32) -> None:
        """Put the prompt's pages where they belong. Cost: O(pages of the prompt)."""
        marks = marks_of_prompt(namespace, prompt, self._page_tokens)
        self.count(marks)
        self.now += 1
        self.coming = 0
        known, new = self._apart(marks[::-1].tolist())
        self.enter(new)
        for index, again in enumerate(known):
            if again:
                self.again(index, again)
        self.settle()
        self._bound()

    def place(self, node: Node) -> tuple[int, float]:
        """The list in which its last page stands, and since when. Cost: O(1), and O(pages) where they are new."""
        self._enter_written(node)
        mark = last_mark(node)
        index = self.where(mark)
        return index, self.lists[index][mark]

    def choose(self, ends: Sequence[End | None]) -> int | None:
        """The policy's victim, once each leaf at an end stands in the list that its last page is in by now."""
        for index, end in enumerate(ends):
            if end is not None and self.where(last_mark(end.node)) != index:
                return None
        return self.victim(ends)

    def span(self, node: Node, pages: int) -> int:
        """Pages at the end that stand in one list. Cost: O(pages that go)."""
        return len(self.tail(node, pages))

    def reclaimed(self, node: Node, pages: int) -> None:
        """They leave their lists, the deepest first."""
        self.coming += pages
        known, _ = self._apart(marks_in(node)[-pages:][::-1].tolist())
        for index, marks in enumerate(known):
            if marks:
                self._drop(index, marks)
                self.gone(index, marks)

    # ---- what a policy says

    def count(self, marks: U64) -> None:
        """Pages are asked for; they stand where they did before."""

    def enter(self, marks: list[int]) -> None:
        """Pages that are in no list come."""
        raise NotImplementedError

    def again(self, index: int, marks: list[int]) -> None:
        """Pages of this list were asked for again."""
        raise NotImplementedError

    def settle(self) -> None:
        """Pages came, or changed their lists."""

    def victim(self, ends: Sequence[End | None]) -> int | None:
        """As ``choose``."""
        raise NotImplementedError

    def gone(self, index: int, marks: list[int]) -> None:
        """Pages left this list and the cache."""

    # ---- what a policy may ask

    def where(self, mark: int) -> int:
        """The list in which a page stands, -1 if in none."""
        for index, pages in enumerate(self.lists):
            if mark in pages:
                return index
        return _NOWHERE

    def put(self, index: int, marks: list[int]) -> None:
        """Put pages that stand in no list at the end of one."""
        self.lists[index].update(dict.fromkeys(marks, self.now))

    def move(self, source: int, index: int, marks: list[int]) -> None:
        """Put pages of one list at the end of another, or of the same."""
        self._drop(source, marks)
        self.put(index, marks)

    def shed(self, source: int, index: int) -> None:
        """Put the page that came to a list longest ago at the end of another."""
        mark, _ = self.lists[source].popitem(last=False)
        self.lists[index][mark] = self.now

    def tail(self, node: Node, pages: int) -> list[int]:
        """Of the leaf's last pages those that stand in the list of the last one, the last first."""
        marks = marks_in(node)[-pages:].tolist()
        home = self.lists[self.where(marks[-1])]
        return list(takewhile(home.__contains__, reversed(marks)))

    # ---- steps of the operations above

    def _enter_written(self, node: Node) -> None:
        """Pages of text that was generated, which no prompt has had, and those that came back unasked."""
        marks = map(int, reversed(marks_in(node)))
        new = list(takewhile(lambda mark: self.where(mark) == _NOWHERE, marks))
        if new:
            self.now += 1
            self.enter(new)
            self.settle()

    def _apart(self, marks: list[int]) -> tuple[list[list[int]], list[int]]:
        """Those of each list, and those of none."""
        known = [[mark for mark in marks if mark in pages] for pages in self.lists]
        found = {mark for each in known for mark in each}
        return known, [mark for mark in marks if mark not in found] if found else marks

    def _drop(self, index: int, marks: list[int]) -> None:
        pages = self.lists[index]
        for mark in marks:
            del pages[mark]

    def _bound(self) -> None:
        """Forget the oldest where a request asked for pages and went before they were computed, again and again."""
        while sum(map(len, self.lists)) > _MOST * self.pages:
            index = max(range(len(self.lists)), key=lambda each: len(self.lists[each]))
            mark, _ = self.lists[index].popitem(last=False)
            self.gone(index, [mark])


def last_mark(node: Node) -> int:
    """Of a leaf's last page."""
    return int(marks_in(node)[-1])


def first_of(ends: Sequence[End | None], order: Iterable[int]) -> int:
    """The first in this order at which there is a leaf."""
    return next(index for index in order if ends[index] is not None)


def keep_newest(remembered: PageList, most: int) -> None:
    """Forget what came first beyond so many."""
    while len(remembered) > most:
        remembered.popitem(last=False)
