"""What is remembered of prefixes, whether they are cached or not: how often a prompt had them, and when last."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infergc.heap.nodes import U64

_WAYS = 4  # places that a prefix may have: of these the one asked for longest ago gives way
_MOST_USES = 255


class Seen(NamedTuple):
    """What was remembered of each of some prefixes, [pages] each.

    Attributes:
        known: whether anything was.
        uses: how often it came again, 0 where it is not known.
        when: the time at which it came last, 0 where it is not known.
    """

    known: NDArray[np.bool_]
    uses: NDArray[np.uint8]
    when: NDArray[np.int64]


class History:
    """A table of bounded size over marks of prefixes. Those that came longest ago are forgotten first, more or less.

    Args:
        entries: how many prefixes it holds, rounded up to a power of 2. Memory: 13 bytes each.
    """

    def __init__(self, entries: int) -> None:
        sets = max(1, 1 << (entries - 1).bit_length()) // _WAYS
        self._sets = np.uint64(max(1, sets) - 1)
        self._tags = np.zeros((max(1, sets), _WAYS), np.uint32)
        self._uses = np.zeros(self._tags.shape, np.uint8)
        self._when = np.zeros(self._tags.shape, np.int64)  # 0: empty

    def look(self, marks: U64) -> Seen:
        """What is remembered of these prefixes. Cost: O(marks) array work."""
        rows, ways, known = self._find(marks)
        return self._seen(rows, ways, known)

    def note(self, marks: U64, now: int) -> Seen:
        """A prompt has these prefixes; returns what was remembered before. Cost: O(marks) array work.

        Args:
            marks: of a prompt's pages.
            now: the time, more than 0.
        """
        rows, ways, known = self._find(marks)
        ways = np.where(known, ways, self._when[rows].argmin(1))
        seen = self._seen(rows, ways, known)
        self._tags[rows, ways] = _tags_of(marks)
        self._uses[rows, ways] = np.where(known, np.minimum(seen.uses, _MOST_USES - 1) + 1, 0)
        self._when[rows, ways] = now
        return seen

    def _find(self, marks: U64) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Each mark's row, the place in it, and whether it stands there."""
        rows = (marks & self._sets).astype(np.int64)
        same = (self._tags[rows] == _tags_of(marks)[:, None]) & (self._when[rows] > 0)
        ways = same.argmax(1)
        return rows, ways, same[np.arange(len(rows)), ways]

    def _seen(self, rows: NDArray[np.int64], ways: NDArray[np.int64], known: NDArray[np.bool_]) -> Seen:
        uses, when = self._uses[rows, ways], self._when[rows, ways]
        return Seen(known, np.where(known, uses, np.uint8(0)), np.where(known, when, 0))


def _tags_of(marks: U64) -> NDArray[np.uint32]:
    return (marks >> np.uint64(32)).astype(np.uint32)
