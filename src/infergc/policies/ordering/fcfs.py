"""First come, first served."""

from dataclasses import dataclass
from typing import ClassVar

from infergc.sched.queue import Key
from infergc.sched.request import Request


@dataclass(frozen=True, slots=True)
class Fcfs:
    """By arrival; a preempted request keeps its place."""

    follows_cache: ClassVar[bool] = False

    def key(self, request: Request) -> Key:
        """Order by arrival."""
        return (request.number,)
