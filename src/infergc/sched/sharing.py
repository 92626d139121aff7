"""A step's time, shared between long prompts and others.

A position deep in a long prompt costs far more than one at a beginning, so what is shared is time, as steps are learnt
to take it, not tokens. As long as others are about, long prompts get a part of each step that suits what the others
do in it. A part that is too short for a chunk worth its reading of all keys is saved for steps to come. Steps of long
prompts alone are short, lest somebody comes, until nobody did for a while: then they are whole ones, of the time that a
step of the most tokens takes at the beginning of a prompt.
"""

from collections import deque
from math import inf, sqrt

import numpy as np

from infergc.sched.plan import I32
from infergc.sched.rows import Rows, Slots, spread
from infergc.sched.step_times import StepTimes

SHARE = 1 / 12  # of a step's time that long prompts get at least, beside others
ALONE = 0.3  # of a usual prompt's step is what a step of long prompts alone takes, while others were about lately
LEAST = 16  # tokens of a chunk worth its reading of all keys
FEW = 4  # tokens of a chunk at least, where a step has nothing else
LATELY, WHILE = 1.0, 4  # seconds, and whole steps' time, until somebody who was about is not expected back
LONG = 4  # times the median of what prompts take is long,
STEPS = 8  # if it takes so many steps too: those of fewer are over before it matters
IDLE = 0.75  # of that time is taken to have passed where the engine had nothing to do
_RECENT = 15  # prompts whose median it is


class Sharing:
    """Gives each running prompt, and each that starts, its tokens of a step.

    Until steps have taught what a token takes, one is taken to cost what another does.
    """

    def __init__(self, rows: Rows, times: StepTimes, budget: int) -> None:
        self._rows = rows
        self._times = times
        self._budget = budget
        self._recent: deque[tuple[int, int]] = deque(maxlen=_RECENT)  # from where to where prompts went, as they came
        self._median = 0.0  # seconds that these take
        self._quiet = inf  # seconds since somebody else was about, as steps are estimated
        self._part = 0.0  # seconds that long prompts have of this step, or have saved

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
        if chunks or waiting:
            self._median = self._usual()
        long = [row for row in chunks if self._is_long(*self._extent(int(slots[row])))]
        others = int(np.count_nonzero(wanted)) - len(long)
        self._look_about(others, idle=not (len(slots) or queued))
        alone = not (others or waiting)
        if alone and queued and self._was_others:
            return np.zeros_like(wanted)
        if alone:
            self._part = self._part_alone()
        else:
            work = sum(self._seconds(int(slots[row]), int(wanted[row])) for row in chunks if row not in long)
            self._part = self._saved(slots, wanted, long) + self._part_beside(slots[wanted == 1], work, waiting)
        self._cut(slots, wanted, long, FEW if alone else 0)
        granted = spread(wanted, self._budget, long)
        for row in long:
            self._spend(int(self._rows.scheduled[slots[row]]), int(granted[row]))
        self._quiet += self._constant
        return granted

    def chunk(self, start: int, known: int, budget: int) -> int:
        """Tokens that a prompt which starts computes of this step, where so many are left."""
        most = min(known - start, budget)
        return self._within(start, most, self._part, LEAST) if self._is_long(start, known) else most

    def came(self, slot: int, count: int) -> None:
        """A prompt started in this slot, with so many tokens."""
        start, known = self._extent(slot)
        if self._is_long(start, known):
            self._spend(start, count)
        else:
            self._quiet = 0.0
            self._recent.append((start, known))

    # ---- what is usual

    def _extent(self, slot: int) -> tuple[int, int]:
        """From where to where a running request's text was to be computed when it started, or is known by now."""
        return int(self._rows.shared[slot]), int(self._rows.known[slot])

    def _prefill(self, start: int, end: int) -> float:
        """Seconds; before anything is known of them, tokens."""
        return self._times.prefill(start, end) or float(end - start)

    @property
    def _constant(self) -> float:
        """Seconds of any step; 0.0 as long as others are tokens."""
        return self._times.coefficients[0] if self._times.prefill(0, 1) else 0.0

    def _usual(self) -> float:
        """Median of what recent prompts take, long ones aside."""
        found = sorted(self._prefill(*each) for each in self._recent)
        return found[len(found) // 2] if found else 0.0

    def _is_long(self, start: int, known: int) -> bool:
        return known - start > LEAST and self._prefill(start, known) > max(STEPS * self.whole, LONG * self._median)

    def _seconds(self, slot: int, wanted: int) -> float:
        start = int(self._rows.scheduled[slot])
        return self._prefill(start, start + wanted)

    # ---- who is about

    def _look_about(self, others: int, *, idle: bool) -> None:
        """Somebody else runs; or nobody at all did, who knows how long: then it is soon that nobody is expected."""
        if others:
            self._quiet = 0.0
        elif idle:
            self._quiet = max(self._quiet, IDLE * self._lately)

    @property
    def _lately(self) -> float:
        """Seconds after which somebody who was about is not expected back."""
        return max(LATELY, WHILE * self.whole)

    @property
    def _was_others(self) -> bool:
        """Whether others were about lately."""
        return self._quiet < self._lately

    # ---- parts of long prompts

    def _part_alone(self) -> float:
        """Seconds of a step that has nothing else: what it takes besides is not to be most of it by far."""
        if not self._was_others:
            return self.whole
        constant = self._constant
        if not constant:  # tokens are free as far as is known: somewhat more of them will tell
            return float(2 * self._times.most)
        return max(ALONE * (constant + self._median) - constant, ALONE * constant)

    def _part_beside(self, decodes: Slots, work: float, waiting: int) -> float:
        """Seconds: a share of a step that does for others what is to be done, or is usual.

        Args:
            decodes: their slots.
            work: seconds of their prompts.
            waiting: how many may start.
        """
        _, token, _, read = self._times.coefficients
        rest = self._constant + len(decodes) * token + float(np.add.reduce(self._rows.scheduled[decodes])) * read
        rest += min(self.whole, max(self._median, work + waiting * self._median) or self.whole)
        return min(self.whole, SHARE / (1 - SHARE) * rest)

    def _saved(self, slots: Slots, wanted: I32, long: list[int]) -> float:
        """Seconds saved by the first long prompt, no more than a chunk needs."""
        if not long:
            return 0.0
        chunk = self._seconds(int(slots[long[0]]), min(LEAST, self._budget, int(wanted[long[0]])))
        return min(self._part, max(chunk, self.whole))

    def _cut(self, slots: Slots, wanted: I32, long: list[int], least: int) -> None:
        """Cut what long prompts want to the part. The first has it, and others what it leaves when it has all."""
        left = self._part
        for row in long:
            start, most = int(self._rows.scheduled[slots[row]]), int(wanted[row])
            wanted[row] = self._within(start, most, left, least)
            left = left - self._prefill(start, start + most) if wanted[row] == most else 0.0
            least = 0

    def _spend(self, start: int, count: int) -> None:
        seconds = self._prefill(start, start + count)
        self._part = max(0.0, self._part - seconds)
        self._quiet += seconds

    def _within(self, start: int, most: int, seconds: float, least: int) -> int:
        """How many of so many from ``start`` on take no longer; ``least`` at least, or a chunk's worth or 0."""
        _, token, pair, _ = self._times.coefficients
        first = token + pair * start
        if seconds <= 0.0:
            found = 0.0
        elif pair > 0.0:
            found = (sqrt(first * first + 2 * pair * seconds) - first) / pair
        else:
            found = seconds / token if token > 0.0 else seconds
        known = max(2 * self._times.most, LEAST) if self._was_others else self._budget
        tokens = min(most, self._budget, known, int(found))
        if least:
            return min(most, max(tokens, least))
        return tokens if tokens >= min(most, self._budget, LEAST) else 0
