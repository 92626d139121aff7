"""The request that stands last gives way, but not for ever the same one."""

from collections.abc import Sequence
from dataclasses import dataclass

from infergc.sched.request import Request


@dataclass(frozen=True, slots=True)
class Spared:
    """The last in order that gave way less often than ``most``; where all did as often, the last.

    Least work is lost where least was done, and the last was admitted last. But who comes back is last again: after so
    many times, others take their turn.
    """

    most: int = 2

    def victim(self, running: Sequence[Request]) -> Request:
        """Choose among running requests, given in order."""
        return next((request for request in reversed(running) if request.preemptions < self.most), running[-1])
