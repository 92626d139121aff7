"""The least work first, and nobody waits for ever."""

from dataclasses import dataclass
from typing import ClassVar

from infergc.sched.queue import Key
from infergc.sched.request import Request

WEIGHT = 4


@dataclass(frozen=True, slots=True)
class ShortestFirst:
    """By arrival plus ``weight`` times the request's own work, both in tokens of prompts.

    Arrival is told by a work clock: the prompt tokens of all that came before. So no time is needed for ageing: who
    came early has a head start over everyone who came later, which grows with the work that came in between. A request
    of w tokens is passed by one of v < w tokens only if less than weight · (w - v) tokens came between the two. So it
    waits for those that came before it, and for less than weight · w tokens, and one request, of those that came after.

    What it is to give is not known, and not counted: clients' limits say little.
    """

    weight: int = WEIGHT

    follows_cache: ClassVar[bool] = False

    def key(self, request: Request) -> Key:
        """Order by arrival and work; equals by number."""
        return (request.came_after + self.weight * request.prompt_len, request.number)
