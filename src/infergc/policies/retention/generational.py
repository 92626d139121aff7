"""Ours: prefixes inherit what was learnt of their like, and what is worth least for the room it takes goes first."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infergc.heap.marks import marks_in, marks_of_prompt
from infergc.heap.nodes import I32, U64, Namespace, Node
from infergc.heap.retention import End, Retention
from infergc.policies.retention.alike import alike_at_end
from infergc.policies.retention.history import I64, History, Told
from infergc.policies.retention.reuse import Reuse

_FIRST_LOOK = 16  # pages asked for
_ONE_IN = 4  # pages: that one is remembered, and where a prompt begins and ends


@dataclass(frozen=True, slots=True)
class Knobs:
    """Of ``Generational``; sizes are in pools.

    Attributes:
        uses: how many times a prefix came again, as far as they are told apart.
        depths: how many prompts wrote what stands before a page that never came again, as far as they are told apart.
        remembered: prefixes remembered, in pools of pages; at most ``remembered_most`` pages. Of four
            one is noted, in 8 bytes.
        learn_every: pages asked for between two looks at what was learnt, in pools; at least ``learn_least`` pages.
            The first looks come sooner, each when twice as many were asked for.
        trust: pages that a guess without knowledge counts for, in pools.
    """

    uses: int = 6
    depths: int = 3
    remembered: float = 64
    remembered_most: int = 1 << 22
    learn_every: float = 0.5
    learn_least: int = 512
    trust: float = 0.02


class Generational(Retention):
    """Reclaim the leaf that can be expected to give the fewest hits for the room it takes.

    How often a prefix came again, whether it was cached or not, tells how likely it is to come once more; where it
    never did, how often its ancestors were continued does (a second turn is likelier than a first to be followed by
    another). That is its class, and ``Reuse`` learns from the load how soon pages of each class come again. Leaves of
    a class are queued by when they were asked for last. Both ends may go: where pages come again later than the pool
    is large, the newest are worth least, and a stable part stays instead of a flow of which nothing lives to be hit.
    """

    both_ends = True

    def __init__(self, knobs: Knobs = Knobs()) -> None:
        self.queues = knobs.depths + knobs.uses
        self._knobs = knobs
        self._now = 1  # pages asked for, and 1

    def begin(self, pages: int, page_tokens: int) -> None:
        """Make room for what is to be remembered."""
        knobs = self._knobs
        self._page_tokens = page_tokens
        entries = min(int(knobs.remembered * pages), knobs.remembered_most) // _ONE_IN
        self._history = History(entries)
        self._reuse = Reuse(self.queues, knobs.depths, pages, knobs.trust * pages / _ONE_IN, entries * _ONE_IN)
        self._every = max(int(knobs.learn_every * pages), knobs.learn_least)
        self._learn_at = _FIRST_LOOK

    def asked(self, namespace: Namespace, prompt: I32) -> U64 | None:
        """Note each page's prefix, and whether and when it came before. Cost: O(prompt) array work."""
        marks = marks_of_prompt(namespace, prompt, self._page_tokens)
        if not len(marks):
            return None
        self._note(_noted(marks))
        self._now += len(marks)
        if self._now >= self._learn_at:
            self._reuse.learn(self._now)
            self._learn_at = self._now + min(self._now, self._every)
        return marks

    def place(self, node: Node) -> tuple[int, float]:
        """Queued by class; ranked by when it was asked for, or was written if nobody did."""
        done = node.marks.size
        marks = marks_in(node)
        if done < len(marks) and self._history.find(int(marks[-1])) is None:
            self._note_written(marks[done:])
        found = self._find(marks, len(marks) - 1)
        if found is None:
            return 0, 0
        return self._class_of(found), self._now - self._history.age(found.when, self._now)

    def choose(self, ends: Sequence[End | None]) -> int:
        """The end that is worth least; of two the first, which is the older."""
        worths = [(self._worth(index, end), index) for index, end in enumerate(ends) if end is not None]
        return min(worths)[1]

    def span(self, node: Node, pages: int) -> int:
        """Pages at the end that are of one class."""
        marks = marks_in(node)
        return alike_at_end(pages, lambda place: self._class_at(marks, len(marks) - 1 - place))

    def _worth(self, index: int, end: End) -> float:
        when = -end.rank if index % 2 else end.rank
        return self._reuse.worth(index // 2, self._now - when)

    def _note(self, marks: U64) -> None:
        seen = self._history.note(marks, self._now)
        self._reuse.came_again(self._classes(seen.uses, seen.depth), seen.age)
        self._reuse.began(self._classes(seen.uses + 1, seen.depth))
        self._began(len(marks) - len(seen.uses), seen.below)

    def _note_written(self, marks: U64) -> None:
        """Pages that no prompt has had, for their text was generated, are known from now on."""
        noted = _noted(marks)
        first = bisect_left(range(len(noted)), True, key=lambda at: self._history.find(int(noted[at])) is None)
        if first < len(noted):
            before = self._history.find(int(noted[first - 1])) if first else None
            depth = 0 if before is None else before.depth  # the same request wrote them
            self._history.note(noted[first:], self._now, depth)
            self._began(len(noted) - first, depth)

    def _began(self, pages: int, depth: int) -> None:
        self._reuse.began(np.full(pages, min(depth, self._knobs.depths - 1)))

    def _find(self, marks: U64, at: int) -> Told | None:
        """What is remembered of a page, or else of the nearest before it on its edge of which something is to be."""
        mark = int(marks[at])
        found = self._history.find(mark)
        while found is None and mark % _ONE_IN and at:
            at -= 1
            mark = int(marks[at])
            found = self._history.find(mark)
        return found

    def _class_at(self, marks: U64, at: int) -> int:
        found = self._find(marks, at)
        return 0 if found is None else self._class_of(found)

    def _class_of(self, told: Told) -> int:
        depths, uses = self._knobs.depths, self._knobs.uses
        return depths - 1 + min(told.uses, uses) if told.uses else min(told.depth, depths - 1)

    def _classes(self, uses: I64, depth: I64) -> I64:
        depths = self._knobs.depths
        return np.where(uses > 0, depths - 1 + np.minimum(uses, self._knobs.uses), np.minimum(depth, depths - 1))


def _noted(marks: U64) -> U64:
    """Those of a prompt's marks that are remembered: one in four, by what they are, and the first and the last.

    The first, as a prefix that many prompts begin with may be so short that none of it is among the four.
    """
    these = marks % np.uint64(_ONE_IN) == 0
    these[[0, -1]] = True
    noted: U64 = marks[these]
    return noted
