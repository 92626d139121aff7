"""How often an engine that died is started again, and after what pause."""

from collections import deque
from collections.abc import Callable
from time import monotonic

RESTARTS_WITHIN = 600.0  # seconds in which restarts are counted
_LONGEST_PAUSE = 30.0  # seconds
_LEAST_LIMIT = 300.0  # seconds; a disk that others read from meanwhile is slow
_TIMES = 10


class RestartBudget:
    """So many restarts in ten minutes: what kills an engine again and again is not mended by one more.

    The first comes at once, for most deaths do not repeat; then after 1 s, 2 s, 4 s, up to 30 s. A failed one counts.

    Args:
        most: restarts within ``RESTARTS_WITHIN``; 0: none at all.
        now: a clock, in seconds.

    Attributes:
        most: see above.
    """

    def __init__(self, most: int, now: Callable[[], float] = monotonic) -> None:
        self.most = most
        self._now = now
        self._lately: deque[float] = deque()

    def take(self) -> float | None:
        """Take one: the pause before it in seconds, or None where all are used up."""
        pause = self.pause()
        if pause is not None:
            self._lately.append(self._now())
        return pause

    def pause(self) -> float | None:
        """What ``take`` would give now."""
        now = self._now()
        while self._lately and now - self._lately[0] > RESTARTS_WITHIN:
            self._lately.popleft()
        before = len(self._lately)
        if before >= self.most:
            return None
        return min(_LONGEST_PAUSE, 2.0 ** (before - 1)) if before else 0.0


def start_limit(first: float) -> float:
    """Seconds after which an engine that is started again counts as failed, where the first start took ``first``."""
    return max(_LEAST_LIMIT, _TIMES * first)
