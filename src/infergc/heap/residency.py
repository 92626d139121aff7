"""How long pages had been in the prefix tree when they were reclaimed: a histogram in steps, by generation."""

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from infergc.heap.generations import GENERATIONS

BOUNDS = (16, 64, 256, 1024, 4096, 16384, 65536, 262144)  # steps
_EDGES = np.array(BOUNDS)


class Residency:
    """Counts pages as they are reclaimed, once for all layer groups.

    Attributes:
        counts: by generation, pages that stayed at most each of ``BOUNDS``, in one bucket only, and last the others.
        steps: by generation, the sum of all stays.
    """

    def __init__(self) -> None:
        self.counts = [[0] * (len(BOUNDS) + 1) for _ in GENERATIONS]
        self.steps = [0] * len(GENERATIONS)

    def add(self, generation: int, stays: NDArray[np.int32]) -> None:
        """Count pages that are reclaimed now. Cost: O(pages) array work; a single page is not worth that."""
        counts = self.counts[generation]
        if len(stays) == 1:
            counts[bisect_left(BOUNDS, stays.item(0))] += 1
            self.steps[generation] += stays.item(0)
            return
        for at, pages in enumerate(np.bincount(_EDGES.searchsorted(stays), minlength=len(counts)).tolist()):
            counts[at] += pages
        self.steps[generation] += int(stays.sum(dtype=np.int64))
