"""W-TinyLFU: what comes new must have been asked for more often than what would go for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infergc.heap.marks import marks_in
from infergc.heap.nodes import U64, Node
from infergc.heap.retention import End
from infergc.policies.retention.listed import Listed, first_of
from infergc.policies.retention.sketch import Sketch

_WINDOW, _PROBATION, _PROTECTED = range(3)


@dataclass(frozen=True, slots=True)
class Knobs:
    """Of ``TinyLfu``.

    Attributes:
        window: share of the pool for what comes new, 0 to 1.
        protected: share of the rest for what was asked for again there, 0 to 1.
        sample: pages asked for after which counts are halved, in pools.
    """

    window: float = 0.01
    protected: float = 0.8
    sample: float = 10


class TinyLfu(Listed):
    """A small window by last use, and a main part of two segments by last use: probation, and protected.

    What leaves the window is a candidate for the main part; while that has room, it is let in. Once it has none, the
    candidate and the first to go of the main part are compared by how often they were asked for lately, by a sketch
    that ages: the one asked for more often stays, the candidate goes where they are equal. (Einziger, Friedman and
    Manes, "TinyLFU: A highly efficient cache admission policy", ACM Transactions on Storage 13(4), 2017; without its
    doorkeeper.) There a page may be kept out; here the pages of a request are in while it runs, and what is compared
    is who goes thereafter. Text that was generated has not been asked for.
    """

    queues = 3

    def __init__(self, knobs: Knobs = Knobs()) -> None:
        self._knobs = knobs

    def begin(self, pages: int, page_tokens: int) -> None:
        """Nothing was counted."""
        super().begin(pages, page_tokens)
        self._window = max(1, int(self._knobs.window * pages))
        self._protected = int(self._knobs.protected * (pages - self._window))
        self._sketch = Sketch(pages, max(1, int(self._knobs.sample * pages)))

    def count(self, marks: U64) -> None:
        """In the sketch."""
        self._sketch.add(marks)

    def enter(self, marks: list[int]) -> None:
        """In the window."""
        self.put(_WINDOW, marks)

    def again(self, index: int, marks: list[int]) -> None:
        """What is in the window stays there, what is in the main part is protected."""
        self.move(index, _WINDOW if index == _WINDOW else _PROTECTED, marks)

    def settle(self) -> None:
        """The main part takes from the window while it has room, and protects no more than its share."""
        window, probation, protected = self.lists
        while len(protected) > self._protected:
            self.shed(_PROTECTED, _PROBATION)
        while len(window) > self._window and len(probation) + len(protected) < self.pages - self._window:
            self.shed(_WINDOW, _PROBATION)

    def victim(self, ends: Sequence[End | None]) -> int | None:
        """Of the window's and the main part's first to go the one that was asked for less often."""
        candidate = ends[_WINDOW]
        if candidate is None or len(self.lists[_WINDOW]) + self.coming < self._window:
            return first_of(ends, (_PROBATION, _PROTECTED, _WINDOW))
        rival = ends[_PROBATION] or ends[_PROTECTED]
        if rival is None or self._asked(candidate.node) <= self._asked(rival.node):
            return _WINDOW
        self.move(_WINDOW, _PROBATION, self.tail(candidate.node, candidate.node.length))
        return None

    def span(self, node: Node, pages: int) -> int:
        """Pages of one list that were asked for no more often than the last."""
        run = len(self.tail(node, pages))
        counts = self._sketch.estimate(marks_in(node)[-run:])
        more = np.flatnonzero(counts > counts[-1])
        return len(counts) if not len(more) else len(counts) - 1 - int(more[-1])

    def _asked(self, leaf: Node) -> int:
        return int(self._sketch.estimate(marks_in(leaf)[-1:])[0])
