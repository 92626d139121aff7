"""How long pages had been in the prefix tree when they were reclaimed: a histogram in steps, by generation."""

from bisect import bisect_left

import numpy as np

from infergc.heap.generations import GENERATIONS
from infergc.heap.moves import I32

BOUNDS = (16, 64, 256, 1024, 4096, 16384, 65536, 262144)  # steps


class Residency:
    """Counts pages as they are reclaimed, once for all layer groups.

    Attributes:
        counts: by generation, pages that stayed at most each of ``BOUNDS``, in one bucket only, and last the others.
        steps: by generation, the sum of all stays.
    """

    def __init__(self) -> None:
        self.counts = [[0] * (len(BOUNDS) + 1) for _ in GENERATIONS]
        self.steps = [0] * len(GENERATIONS)

    def add(self, generation: int, pages: I32, born: I32, step: int) -> None:
        """Count pages of one edge that are reclaimed in this step; ``born`` is by page, and ascends along an edge.

        Cost: O(1) where all were born in the same step, as the pages of a prompt or of an output are; else O(pages)
        array work, and O(1) for each of those steps.
        """
        first = born.item(pages.item(0))
        if born.item(pages.item(-1)) == first:
            self._count(generation, step - first, len(pages))
            return
        births, numbers = np.unique(born[pages], return_counts=True)
        for birth, number in zip(births.tolist(), numbers.tolist(), strict=True):
            self._count(generation, step - birth, number)

    def _count(self, generation: int, stay: int, pages: int) -> None:
        self.counts[generation][bisect_left(BOUNDS, stay)] += pages
        self.steps[generation] += stay * pages
