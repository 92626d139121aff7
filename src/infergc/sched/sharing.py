"""A step's time, shared between long prompts and others.

A position deep in a long prompt costs far more than one at a beginning, so what is shared is time, as steps are learnt
to take it, not tokens. As long as others are about, long prompts get a part of each step that suits what the others
do in it: neither waits for the other. A part that is too short for a chunk worth its reading of all keys is saved for
steps to come. Steps of long prompts alone are short, lest somebody comes, until nobody did for a while: then they are
whole ones, of the time that a step of the most tokens takes at the beginning of a prompt.
"""

from collections import deque
from math import inf, sqrt

import numpy as np

from infergc.sched.plan import I32
from infergc.sched.rows import Rows, Slots, spread
from infergc.sched.step_times import StepTimes

SHARE = 1 / 12  # of a step's time that long prompts get at least
ALONE = 0.3  # of what a usual prompt takes is what a step of long prompts alone takes, where others were about lately
LEAST = 16  # tokens of a chunk worth its reading of all keys
FEW = 4  # tokens of a chunk at least, where a step has nothing else
LATELY, WHILE = 1.0, 4  # seconds, and whole steps' time, until somebody who was about is not expected back
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
        self._quiet = inf  # seconds since somebody else was about, as steps are estimated
        self._part = 0.0  # seconds of this step that are left for long prompts, with those saved

    @property
    def whole(self) -> float:
        """Seconds of a step's most tokens at the beginning of a prompt."""
        return self._prefill(0, self._budget)

    def spread(self, slots: Slots, waiting: int, *, queued: bool = False) -> I32:
        """Tokens that each row computes in this step: decodes first, long prompts' parts, then the others in order.

        Where others were about lately, a step for long prompts alone is not queued behind another: who comes now
        would wait for both.

        Args:
            slots: of those that run, in order.
            waiting: requests that may start in this step.
            queued: whether the step will wait for one that is in flight.
        Cost: O(rows) array work, and O(1) for each prompt.
        """
        wanted = self._rows.wanted(slots)
        chunks = (wanted > 1).nonzero()[0].tolist()
        long = [row for row in chunks if self._is_long(*self._extent(int(slots[row])))]
        alone = len(long) == np.count_nonzero(wanted) and not waiting
        if alone and queued and self._was_others:
            return np.zeros_like(wanted)
        if waiting + len(slots) > len(long):
            self._quiet = 0.0
        if alone:
            self._part = self._part_alone()
        else:
            others = sum(self._seconds(int(slots[row]), int(wanted[row])) for row in chunks if row not in long)
            saved = min(self._part, self.whole) if long else 0.0
            self._part = saved + self._part_beside(slots[wanted == 1], others + waiting * self._median)
        for row in long:
            least = FEW if alone and row == long[0] else 0
            wanted[row] = self._take(int(self._rows.scheduled[slots[row]]), int(wanted[row]), least)
        self._quiet += self._times.coefficients[0] + sum(
            self._seconds(int(slots[row]), int(wanted[row])) for row in long
        )
        return spread(wanted, self._budget, long)

    def chunk(self, start: int, known: int, budget: int) -> int:
        """Tokens that a prompt which starts computes of this step, where so many are left."""
        most = min(known - start, budget)
        return self._take(start, most, LEAST) if self._is_long(start, known) else most

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

    def _take(self, start: int, most: int, least: int) -> int:
        """Take a long prompt's tokens from the part; the least where too little is left of it."""
        tokens = min(most, self._within(start, self._part))
        if tokens < min(most, LEAST):
            tokens = min(most, least)
        self._part = max(0.0, self._part - self._prefill(start, start + tokens))
        return tokens

    @property
    def _was_others(self) -> bool:
        """Whether others were about lately."""
        return self._quiet < max(LATELY, WHILE * self.whole)

    def _part_alone(self) -> float:
        """Seconds for long prompts of a step that has nothing else."""
        constant = self._times.coefficients[0]
        return ALONE * (constant + self._median) - constant if self._was_others else self.whole

    def _part_beside(self, decodes: Slots, others: float) -> float:
        """Seconds for long prompts: their share of a step that does for others what is to be done, or is usual."""
        constant, token, _, read = self._times.coefficients
        rest = constant + len(decodes) * token + float(np.add.reduce(self._rows.scheduled[decodes])) * read
        rest += min(self.whole, max(self._median, others) or self.whole)
        return min(self.whole, SHARE / (1 - SHARE) * rest)

    def _within(self, start: int, seconds: float) -> int:
        """How many positions from ``start`` on take no longer, as far as is known."""
        _, token, pair, _ = self._times.coefficients
        first = token + pair * start
        if seconds <= 0.0:
            return 0
        if first <= 0.0:
            found = seconds
        elif pair <= 0.0:
            found = seconds / token
        else:
            found = (sqrt(first * first + 2 * pair * seconds) - first) / pair
        most = min(self._budget, 2 * self._times.most) if self._was_others else self._budget
        return min(most, int(found))
