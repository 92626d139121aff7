"""What is remembered of prefixes, whether they are cached or not: how often a prompt had them, and when last."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infergc.heap.nodes import U64

I64 = NDArray[np.int64]

_WAYS = 4  # places that a prefix may have: of these the one that came longest ago gives way
_MOST_USES = 255
_WHEN, _TAG = 32, 8  # an entry, from its highest bit: the time it came, 24 bits of its mark, 8 bits of uses
_LOW = 8  # bits of a mark that say nothing here, so that others may choose marks by them
_TAG_BITS = np.uint64(0xFFFFFF << _TAG)
_USES_BITS = np.uint64(_MOST_USES)
_LATEST = (1 << 32) - 1  # times begin anew after this one


class Seen(NamedTuple):
    """What was remembered of those of some prefixes that were known.

    Attributes:
        known: of each prefix, whether anything was remembered.
        uses: of those that are known, how often they came again.
        age: how long ago they came last.
    """

    known: NDArray[np.bool_]
    uses: I64
    age: I64


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

    def find(self, mark: int) -> tuple[int, int] | None:
        """How often a prefix came again and the time it came last, None if nothing is remembered. Cost: O(1)."""
        tag = _tag_of(mark)
        for entry in self._table[mark >> _LOW & self._rows].tolist():
            if entry and (entry ^ tag) & int(_TAG_BITS) == 0:
                return entry & _MOST_USES, entry >> _WHEN
        return None

    def note(self, marks: U64, now: int) -> Seen:
        """A prompt has these prefixes; returns what was remembered of them before. Cost: O(marks) array work.

        Args:
            marks: of a prompt's pages.
            now: the time, more than 0.
        """
        rows = ((marks >> np.uint64(_LOW)) & np.uint64(self._rows)).astype(np.int64)
        tags = (marks >> np.uint64(64 - 24)) << np.uint64(_TAG)
        entries = self._table.take(rows, 0)
        same = (((entries ^ tags[:, None]) & _TAG_BITS) == 0) & (entries > 0)
        ages = (np.uint64(now & _LATEST) - (entries >> np.uint64(_WHEN))) & np.uint64(_LATEST)
        ways = np.where(same, np.uint64(_LATEST + 1), ages).argmax(1)
        each = np.arange(len(rows))
        known, uses = same[each, ways], entries[each, ways] & _USES_BITS
        more = np.where(known, np.minimum(uses + np.uint64(1), _USES_BITS), np.uint64(0))
        noted = np.uint64((now & _LATEST) << _WHEN) | tags | more
        self._table[rows, ways] = noted
        lost = self._table[rows, ways] != noted  # two that are new came to one place
        if lost.any():
            self.note(marks[lost], now)
        return Seen(known, uses[known].astype(np.int64), ages[each, ways][known].astype(np.int64))

    def age(self, when: int, now: int) -> int:
        """How long before ``now`` a time of ``find`` was."""
        return (now - when) & _LATEST


def _tag_of(mark: int) -> int:
    return mark >> (64 - 24) << _TAG
