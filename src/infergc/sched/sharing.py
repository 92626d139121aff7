"""A step's time, shared between long prompts and others.

A position deep in a long prompt costs far more than one at a beginning, so what is shared is time, as steps are learnt
to take it, not tokens. As long as others are about, long prompts get a part of each step that suits what the others
do in it: neither waits for the other. Who has been alone for a while gets whole steps, of the time that a step of the
most tokens takes at the beginning of a prompt.
"""

from collections import deque
from math import sqrt

import numpy as np

from infergc.sched.plan import I32
from infergc.sched.rows import Rows, Slots, spread
from infergc.sched.step_times import StepTimes

SHARE = 1 / 12  # of a step's time that long prompts get at least
LEAST = 16  # tokens of a chunk
LATELY = 64  # steps after which somebody who was about is not expected back
LONG = 4  # times the median of what prompts take is long,
STEPS = 8  # if it takes so many steps too: those of fewer are over before it matters
_RECENT = 15  # prompts whose median it is


class Sharing:
    """Gives each running prompt, and each that starts, its tokens of a step.

    Until steps have taught what a token takes, one is taken to cost what another does.
    """

    def __init__(self, rows: Rows, times: StepTimes, budget: int) -> None:
        self._rows = rows
        self._times = times
        self._budget = budget
        self._recent: deque[float] = deque(maxlen=_RECENT)  # seconds that prompts take, as they came
        self._median = 0.0
        self._quiet = LATELY  # steps since somebody else was about
        self._part = 0.0  # seconds of this step that are left for long prompts

    @property
    def whole(self) -> float:
        """Seconds of a step's most tokens at the beginning of a prompt."""
        return self._prefill(0, self._budget)

    def spread(self, slots: Slots, waiting: int) -> I32:
        """Tokens that each row computes in this step: decodes first, long prompts' parts, then the others in order.

        Args:
            slots: of those that run, in order.
            waiting: requests that may start in this step.
        Cost: O(rows) array work, and O(1) for each prompt.
        """
        wanted = self._rows.wanted(slots)
        chunks = (wanted > 1).nonzero()[0].tolist()
        long = [row for row in chunks if self._is_long(*self._extent(int(slots[row])))]
        self._quiet = 0 if waiting + len(slots) > len(long) else self._quiet + 1
        others = sum(self._seconds(int(slots[row]), int(wanted[row])) for row in chunks if row not in long)
        self._part = self._part_of_long(slots, wanted, others + waiting * self._median)
        for row in long:
            wanted[row] = min(int(wanted[row]), self._take(int(self._rows.scheduled[slots[row]])))
        return spread(wanted, self._budget, long)

    def chunk(self, start: int, known: int, budget: int) -> int:
        """Tokens that a prompt which starts computes of this step, where so many are left."""
        most = min(known - start, budget)
        return min(most, self._take(start)) if self._is_long(start, known) else most

    def came(self, slot: int) -> None:
        """A prompt started in this slot."""
        self._recent.append(self._prefill(*self._extent(slot)))
        self._median = sorted(self._recent)[len(self._recent) // 2]

    def _extent(self, slot: int) -> tuple[int, int]:
        """From where to where a running request's text was to be computed when it started, or is known by now."""
        return int(self._rows.shared[slot]), int(self._rows.known[slot])

    def _prefill(self, start: int, end: int) -> float:
        """Seconds; before anything is known of them, tokens."""
        return self._times.prefill(start, end) or float(end - start)

    def _is_long(self, start: int, known: int) -> bool:
        return known - start > LEAST and self._prefill(start, known) > max(STEPS * self.whole, LONG * self._median)

    def _seconds(self, slot: int, wanted: int) -> float:
        start = int(self._rows.scheduled[slot])
        return self._prefill(start, start + wanted)

    def _take(self, start: int) -> int:
        """Take a long prompt's tokens from the part; the least where nothing is left of it."""
        tokens = max(LEAST, self._within(start, self._part))
        self._part = max(0.0, self._part - self._prefill(start, start + tokens))
        return tokens

    def _part_of_long(self, slots: Slots, wanted: I32, others: float) -> float:
        """Seconds for long prompts: their share of a step that does for others what is to be done, or is usual."""
        whole = self.whole
        if self._quiet >= LATELY:
            return whole
        decodes = slots[wanted == 1]
        constant, token, _, read = self._times.coefficients
        rest = constant + len(decodes) * token + float(np.add.reduce(self._rows.scheduled[decodes])) * read
        rest += min(whole, max(self._median, others) or whole)
        return min(whole, SHARE / (1 - SHARE) * rest)

    def _within(self, start: int, seconds: float) -> int:
        """How many positions from ``start`` on take no longer, as far as is known."""
        _, token, pair, _ = self._times.coefficients
        first = token + pair * start
        if first <= 0.0:
            found = seconds
        elif pair <= 0.0:
            found = seconds / token
        else:
            found = (sqrt(first * first + 2 * pair * seconds) - first) / pair
        most = self._budget if self._quiet >= LATELY else min(self._budget, 2 * self._times.most)
        return min(most, int(found))
