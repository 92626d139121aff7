"""Requests are expected to grow as those before them did."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from infergc.sched.plan import I32
from infergc.sched.rows import Slots

_GOLDEN = 0.6180339887498949  # fractions of its multiples fill the unit interval evenly


@dataclass(slots=True)
class Learned:
    """Of the outputs that ended lately, each request is expected to give one that is longer than its own so far.

    Which one is spread over the slots, evenly from the shortest to the longest: so together they grow as a crowd of
    such requests does, where one quantile for all would have them end at once, and a high one would leave memory
    empty. Who is beyond all that ended is expected to give as much again. There is no chance in it (law 10).

    Attributes:
        memory: outputs that are remembered.
    """

    memory: int = 512
    _outputs: deque[int] = field(default_factory=deque)
    _sorted: I32 | None = None

    def learn(self, output: int) -> None:
        """Remember an output, in place of the oldest."""
        self._outputs.append(output)
        if len(self._outputs) > self.memory:
            self._outputs.popleft()
        self._sorted = None

    def growth(self, slots: Slots, outputs: I32) -> I32:
        """See ``Admission``. Cost: O(requests) array work, and a sort of what is remembered after one has ended."""
        if not self._outputs:
            return outputs.astype(np.int32)
        if self._sorted is None:
            self._sorted = np.sort(np.fromiter(self._outputs, np.int32, len(self._outputs)))
        shorter = np.searchsorted(self._sorted, outputs, "right")
        longer = len(self._sorted) - shorter
        chosen = shorter + ((slots + 1) * _GOLDEN % 1.0 * longer).astype(np.intp)
        expected = self._sorted[np.minimum(chosen, len(self._sorted) - 1)] - outputs
        return np.where(longer > 0, expected, outputs).astype(np.int32)
