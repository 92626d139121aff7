"""Deadlines of requests that wait: whoever has not started by then is told so instead of waiting on."""

from collections.abc import Iterable

from infergc.sched.request import Request


class Deadlines:
    """What of time the queue knows: whole seconds, as ticks bring them (law 10).

    Attributes:
        now: the latest.
    """

    def __init__(self) -> None:
        self.now = 0

    def tick(self, now: int) -> None:
        """The time is ``now``, in seconds since the engine began."""
        self.now = now

    def after(self, seconds: int | None, came: int | None = None) -> int | None:
        """The deadline of a request that comes now, or ``came`` then, and waits for so long at most; None if for ever.

        It may have come at the very end of this second, and is to have all of its time: so one more is added.
        """
        return None if seconds is None else (self.now if came is None else came) + seconds + 1

    def passed(self, waiting: Iterable[Request]) -> list[Request]:
        """Those whose deadline is over and that never started, in order; who was preempted had started.

        Cost: O(waiting), once a second.
        """
        return [one for one in waiting if one.deadline is not None and one.deadline <= self.now and not one.started]
