"""By the request's own priority."""

from dataclasses import dataclass
from typing import ClassVar

from infergc.sched.queue import Key
from infergc.sched.request import Request


@dataclass(frozen=True, slots=True)
class Priority:
    """Smaller ``priority`` first; equals by arrival."""

    follows_cache: ClassVar[bool] = False

    def key(self, request: Request) -> Key:
        """Order by priority, then arrival."""
        return (request.priority, request.number)
