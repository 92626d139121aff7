"""Conversations: each turn's prompt is all that was said and answered before, and something new."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from infergc.sim.draws import MICROS, Draws
from infergc.sim.requests import TraceRequest
from infergc.sim.workloads.knobs import Workload
from infergc.sim.workloads.texts import BLOCK, Text


@dataclass(frozen=True, slots=True)
class Manner:
    """How conversations of a kind go.

    Attributes:
        again: probability of another turn, less than 1.
        opening, addition, answer: mean tokens said first, said in later turns, answered.
        pause: mean seconds from an answer's end to the next turn.
        speed: tokens a second at which answers come.
    """

    again: float
    opening: int
    addition: int
    answer: int
    pause: float
    speed: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation. It ends when it likes, or when the next turn has no room in the context.

    Attributes:
        work: whose knobs bound it.
        manner: how it goes.
        text: what it begins with, at most half the context; it grows from turn to turn.
        session: its name.
    """

    work: Workload
    manner: Manner
    text: Text
    session: str

    def turns(self, draws: Draws, start: int) -> Iterator[TraceRequest]:
        """Turn after turn, the first ``start`` microseconds after the workload began."""
        manner, now = self.manner, start
        said, answer = self._opening(draws)
        while self.text.length + said + answer <= self.work.context:
            self.text.grow(said)
            yield TraceRequest(now / MICROS, self.text.length, answer, self.text.blocks(), BLOCK, self.session)
            self.text.grow(answer)
            if not draws.chance(manner.again):
                return
            now += round(answer / manner.speed * MICROS) + draws.micros(manner.pause)
            said, answer = self._lengths(draws, manner.addition, self.work.context)

    def _opening(self, draws: Draws) -> tuple[int, int]:
        """The first turn is cut so that there is one."""
        return self._lengths(draws, self.manner.opening, (self.work.context - self.text.length) // 2)

    def _lengths(self, draws: Draws, said: int, most: int) -> tuple[int, int]:
        return self.work.length(draws, said, most), self.work.length(draws, self.manner.answer, most)


def by_arrival(draws: Draws, work: Workload, turns: float, begin: Callable[[int], Conversation]) -> list[TraceRequest]:
    """The first requests of conversations that begin by a Poisson process.

    Args:
        draws: what everything is drawn from.
        work: says how many requests, and at what rate.
        turns: of a conversation on the average: so much more seldom conversations begin than requests come.
        begin: makes the conversation of a number.
    """
    found: list[TraceRequest] = []
    to_come: list[tuple[float, int, TraceRequest]] = []
    order = count()  # of those that come together
    for number, start in enumerate(draws.starts(work.rate / turns)):
        while to_come and to_come[0][0] * MICROS <= start:  # nothing that begins later comes before
            found.append(heappop(to_come)[2])
        if len(found) >= work.requests:
            break
        for request in begin(number).turns(draws, start):
            heappush(to_come, (request.arrival, next(order), request))
    return found[: work.requests]
