"""What is cached goes first, before it is lost, and nobody waits for ever."""

from dataclasses import dataclass
from typing import ClassVar

from infergc.sched.queue import Key
from infergc.sched.request import Request

WEIGHT = 32


@dataclass(frozen=True, slots=True)
class CacheAware:
    """By arrival less ``weight`` times the prompt's tokens that are cached now.

    Arrival is told by a work clock, as for ``ShortestFirst``. A request is passed by one that came later only if less
    than weight · (cached tokens of that one) came between the two. So with prompts of at most n tokens it waits for
    those that came before it, and for less than weight · n tokens, and one request, of those that came after.
    What is cached changes while requests wait: the queue asks anew (``RequestQueue.refresh``).
    """

    weight: int = WEIGHT
    follows_cache: ClassVar[bool] = True

    def key(self, request: Request) -> Key:
        """Order by arrival and what is cached; equals by number."""
        return (request.came_after - self.weight * request.at_hand, request.number)
