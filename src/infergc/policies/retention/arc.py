"""ARC: recency and frequency share the pool, and pages that went too soon say how."""

from collections import OrderedDict
from collections.abc import Sequence

from infergc.heap.nodes import Node
from infergc.heap.retention import End
from infergc.policies.retention.listed import Listed, PageList, first_of, keep_newest

_ONCE, _OFTEN = range(2)  # T1 and T2 of the paper, or B1 and B2


class Arc(Listed):
    """Two lists by last use: pages asked for once, T1, and more often, T2; and ghosts of what left either, B1 and B2.

    T1 gives way while it is larger than a target p, T2 otherwise. A page that comes back from B1 raises p by
    max(1, |B2| / |B1|), one from B2 lowers it by max(1, |B1| / |B2|). |T1| + |B1| ≤ c and all four ≤ 2c, where c is
    the pool. (Megiddo and Modha, "ARC: A self-tuning, low overhead replacement cache", FAST 2003, figure 4.) Unlike
    there, p changes when the page that came back is in: a request's room is made before it is known to have started.

    Memory: that of ``Listed``, and as much for a pool of ghosts.
    """

    queues = 2

    def begin(self, pages: int, page_tokens: int) -> None:
        """Nothing is remembered, and T1 is to have no room of its own."""
        super().begin(pages, page_tokens)
        self._ghosts: list[PageList] = [OrderedDict(), OrderedDict()]
        self.target = 0.0

    def enter(self, marks: list[int]) -> None:
        """To T2 what has a ghost, to T1 what has none."""
        for index, ghosts in enumerate(self._ghosts):
            back = [mark for mark in marks if mark in ghosts]
            for mark in back:
                self._adapt(index)
                del ghosts[mark]
            self.put(_OFTEN, back)
        often = self.lists[_OFTEN]
        self.put(_ONCE, [mark for mark in marks if mark not in often])

    def again(self, index: int, marks: list[int]) -> None:
        """To T2."""
        self.move(index, _OFTEN, marks)

    def settle(self) -> None:
        """Keep no more ghosts than the bounds allow."""
        once, often = self._ghosts
        keep_newest(once, max(0, self.pages - len(self.lists[_ONCE])))
        keep_newest(often, max(0, 2 * self.pages - len(once) - sum(map(len, self.lists))))

    def victim(self, ends: Sequence[End | None]) -> int:
        """From T1 while it is larger than the target."""
        once_first = len(self.lists[_ONCE]) + self.coming > self.target
        return first_of(ends, (_ONCE, _OFTEN) if once_first else (_OFTEN, _ONCE))

    def span(self, node: Node, pages: int) -> int:
        """Pages of one list; of T2 only until it is T1's turn, as what comes in their place grows that."""
        run = self.tail(node, pages)
        left = int(self.target) - len(self.lists[_ONCE]) - self.coming + 1
        return min(len(run), left) if run[0] in self.lists[_OFTEN] and left > 0 else len(run)

    def gone(self, index: int, marks: list[int]) -> None:
        """Their ghosts stay."""
        self._ghosts[index].update(dict.fromkeys(marks, self.now))

    def _adapt(self, index: int) -> None:
        """A page came back that had left this list: it should have been longer."""
        here, there = len(self._ghosts[index]), len(self._ghosts[1 - index])
        step = max(1.0, there / here)
        self.target = min(max(self.target + (step if index == _ONCE else -step), 0.0), float(self.pages))
