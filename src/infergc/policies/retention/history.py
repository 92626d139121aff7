"""What is remembered of prefixes, whether they are cached or not: how often prompts had them, after how many others."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infergc.heap.nodes import U64

I64 = NDArray[np.int64]

_WAYS = 4  # places that a prefix may have: of these the one that came longest ago gives way
_LOW = 8  # bits of a mark that say nothing here, so that others may choose marks by them
_WHEN, _TAG, _DEPTH = 32, 11, 8  # an entry, from its highest bit: when it came, 21 bits of its mark, depth, uses
_TAG_SIZE = _WHEN - _TAG
_TAG_BITS = np.uint64(((1 << _TAG_SIZE) - 1) << _TAG)
_MOST_USES, _MOST_DEPTH = (1 << _DEPTH) - 1, (1 << _TAG - _DEPTH) - 1
_USES_BITS, _DEPTH_BITS = np.uint64(_MOST_USES), np.uint64(_MOST_DEPTH << _DEPTH)
_LATEST = (1 << 32) - 1  # times begin anew after this one


class Told(NamedTuple):
    """What is remembered of a prefix.

    Attributes:
        uses: how often it came again.
        depth: how many prompts wrote what stands before it, each going on where another ended.
        when: the time it came last.
    """

    uses: int
    depth: int
    when: int


class Seen(NamedTuple):
    """What was remembered of a prompt's prefixes.

    Attributes:
        known: of each, whether anything was.
        uses, depth: of those that are known.
        age: how long ago those came last.
        below: the depth of the others, from now on.
    """

    known: NDArray[np.bool_]
    uses: I64
    depth: I64
    age: I64
    below: int


class History:
    """A table of bounded size over marks of prefixes. Those that came longest ago are forgotten first, more or less.

    It is one array of which a set of four entries is half a cache line, as a prompt's marks are all over it.

    Args:
        entries: how many prefixes it holds, rounded up to a power of 2. Memory: 8 bytes each.
    """

    def __init__(self, entries: int) -> None:
        sets = max(1, 1 << max(0, entries - 1).bit_length() >> 2)
        self._table: U64 = np.zeros((sets, _WAYS), np.uint64)  # 0: empty
        self._rows = sets - 1

    def find(self, mark: int) -> Told | None:
        """What is remembered of a prefix, None if nothing is. Cost: O(1)."""
        tag = _tag_of(mark)
        for entry in self._table[mark >> _LOW & self._rows].tolist():
            if entry and (entry ^ tag) & int(_TAG_BITS) == 0:
                return Told(entry & _MOST_USES, entry >> _DEPTH & _MOST_DEPTH, entry >> _WHEN)
        return None

    def note(self, marks: U64, now: int, below: int | None = None) -> Seen:
        """A prompt has these prefixes; returns what was remembered of them before. Cost: O(marks) array work.

        Args:
            marks: of a prompt's pages.
            now: the time, more than 0.
            below: the depth of those that are not known; else it is one more than that of the last that is.
        """
        rows = ((marks >> np.uint64(_LOW)) & np.uint64(self._rows)).astype(np.int64)
        tags = (marks >> np.uint64(64 - _TAG_SIZE)) << np.uint64(_TAG)
        entries = self._table.take(rows, 0)
        same = (((entries ^ tags[:, None]) & _TAG_BITS) == 0) & (entries > 0)
        ages = (np.uint64(now & _LATEST) - (entries >> np.uint64(_WHEN))) & np.uint64(_LATEST)
        ways = np.where(same, np.uint64(_LATEST + 1), ages).argmax(1)
        each = np.arange(len(rows))
        known, chosen = same[each, ways], entries[each, ways]
        uses, depth = chosen & _USES_BITS, (chosen & _DEPTH_BITS) >> np.uint64(_DEPTH)
        below = min(int(depth[known][-1]) + 1, _MOST_DEPTH) if below is None and known.any() else below or 0
        again = np.minimum(uses + np.uint64(1), _USES_BITS) | (chosen & _DEPTH_BITS)
        noted = np.uint64((now & _LATEST) << _WHEN) | tags | np.where(known, again, np.uint64(below << _DEPTH))
        age = ages[each, ways]
        new = ~known & (age > 0)  # else the set is full of this prompt's own
        self._table[rows[new], ways[new]] = noted[new]
        self._table[rows[known], ways[known]] = noted[known]
        lost = new & (self._table[rows, ways] != noted)  # another of this prompt came to the same place
        if lost.any():
            self.note(marks[lost], now, below)  # as often as a set has places, at most
        uses, depth, age = (each[known].astype(np.int64) for each in (uses, depth, age))
        return Seen(known, uses, depth, age, below)

    def age(self, when: int, now: int) -> int:
        """How long before ``now`` a time of ``find`` was."""
        return (now - when) & _LATEST


def _tag_of(mark: int) -> int:
    return mark >> (64 - _TAG_SIZE) << _TAG
