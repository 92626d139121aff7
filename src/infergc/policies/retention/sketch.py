"""A sketch of how often pages were asked for lately: small counters that several pages share, halved from time to time.

Count-min with conservative update (Cormode and Muthukrishnan, "An improved data stream summary", 2005; Estan and
Varghese, "New directions in traffic measurement and accounting", SIGCOMM 2002), aged as in TinyLFU (Einziger, Friedman
and Manes, "TinyLFU: A highly efficient cache admission policy", ACM Transactions on Storage 13(4), 2017, section 3.3).
"""

import numpy as np
from numpy.typing import NDArray

from infergc.heap.nodes import U64

_ROWS = 4
_MOST = 15  # as 4 bits hold
_MIXERS = np.array(  # odd, from splitmix64 and murmur3: a row's index is the top of a product
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xFF51AFD7ED558CCD], np.uint64
)


class Sketch:
    """Counts of marks: never too small but for aging, and rarely too large.

    Args:
        pages: about how many are told apart: each row has as many counters, rounded up to a power of 2. Memory: 4
            bytes each.
        sample: pages counted after which all counts are halved.
    """

    def __init__(self, pages: int, sample: int) -> None:
        bits = max(1, (pages - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._counts = np.zeros((_ROWS, 1 << bits), np.uint8)
        self._sample, self._counted = sample, 0

    def add(self, marks: U64) -> None:
        """Count marks, of which none comes twice. Cost: O(marks) array work, and O(counters) once a sample."""
        more = np.minimum(self.estimate(marks) + np.uint8(1), _MOST)
        for row, places in zip(self._counts, self._places(marks), strict=True):
            np.maximum.at(row, places, more)  # two marks may share a counter
        self._counted += len(marks)
        if self._counted >= self._sample:
            self._counts >>= np.uint8(1)
            self._counted //= 2

    def estimate(self, marks: U64) -> NDArray[np.uint8]:
        """How often each was counted, [marks], at most 15. Cost: O(marks) array work."""
        least: NDArray[np.uint8] = np.take_along_axis(self._counts, self._places(marks), 1).min(0)
        return least

    def _places(self, marks: U64) -> NDArray[np.int64]:
        """By row the counter of each mark: [rows, marks]."""
        places: NDArray[np.int64] = ((marks[None, :] * _MIXERS[:, None]) >> self._shift).astype(np.int64)
        return places
