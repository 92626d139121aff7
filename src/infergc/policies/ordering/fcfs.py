"""First come, first served."""

from dataclasses import dataclass

from infergc.sched.queue import Key
from infergc.sched.request import Request


@dataclass(frozen=True, slots=True)
class Fcfs:
    """By arrival; a preempted request keeps its place."""

    def key(self, request: Request) -> Key:
        """Order by arrival."""
        return (request.number,)
