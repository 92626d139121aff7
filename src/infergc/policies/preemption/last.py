"""The request that stands last gives way."""

from collections.abc import Sequence
from dataclasses import dataclass

from infergc.sched.request import Request


@dataclass(frozen=True, slots=True)
class Last:
    """Least work is lost where least was done: the last in order was admitted last."""

    def victim(self, running: Sequence[Request]) -> Request:
        """Choose among running requests, given in order."""
        return running[-1]
