"""Trials: a step failed, and it is found out for which of its requests by running them again, apart.

Those that ran together in a failed step run in halves, then in halves of the half that fails, until one that fails
alone twice at the same place is told so. A half that gets past where its requests stood is acquitted. So one request
that cannot be computed among n costs the others some 2·log2(n) steps, and nobody an answer.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from infergc.sched.request import Request, Status
from infergc.sched.search import BeamSearch, Hypothesis

ALONE = 2  # times that a request fails alone, at the same place, before it ends
MOST = 16  # times in all, without getting anywhere in between: halves of 2^13 requests are that deep

_PENDING = frozenset({Status.WAITING, Status.LOADING, Status.RUNNING})


@dataclass(slots=True)
class Suspicion:
    """What is held against a request.

    Attributes:
        until: tokens of it that have to be computed before it is acquitted: so many were to be in the failed step.
        failures: steps with it that failed since it was last acquitted.
        alone: those of them in which nobody else ran, at one place.
        place: positions that the last of these was to compute.
    """

    until: int = 0
    failures: int = 0
    alone: int = 0
    place: range = range(0)

    def add(self, place: range, *, alone: bool) -> None:
        """A step failed that was to compute these positions."""
        self.until = max(self.until, place.stop)
        self.failures += 1
        if alone:
            again = max(place.start, self.place.start) < min(place.stop, self.place.stop)
            self.alone = self.alone + 1 if again else 1
            self.place = place

    @property
    def proven(self) -> bool:
        """Whether it cannot be the others' fault."""
        return self.alone >= ALONE or self.failures >= MOST


class Trials:
    """The requests under suspicion, in groups that run apart; hypotheses of one search are in one group.

    Attributes:
        retried: requests that ran again, running total.
        suspicions: what is held against whom.
    """

    def __init__(self) -> None:
        self.retried = 0
        self._groups: list[list[Request]] = []  # the last runs first
        self.suspicions: dict[Request, Suspicion] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def take_over(self, other: "Trials", requests: Iterable[Request]) -> None:
        """What was held against requests is held against these, which stand for those of the same name."""
        held = {request.id: suspicion for request, suspicion in other.suspicions.items()}
        self.suspicions = {request: held[request.id] for request in requests if request.id in held}
        self.retried = other.retried

    def accuse(self, steps: Mapping[Request, range], *, alone: bool) -> list[Request]:
        """These ran in a failed step; returns those that are guilty. The others are to run again.

        Args:
            steps: request → positions that were to be computed.
            alone: whether that was the whole step, and these are one request or one search.
        """
        for request, place in steps.items():
            self.suspicions.setdefault(request, Suspicion()).add(place, alone=alone)
        guilty = [request for request in steps if self.suspicions[request].proven]
        self._clear(steps)
        units = _units(request for request in steps if request not in guilty)
        half = len(units) // 2
        for part in (units[half:], units[:half]):
            if part:
                self._groups.append([request for unit in part for request in unit])
        for request in guilty:
            del self.suspicions[request]
        self.retried += len(steps) - len(guilty)
        return guilty

    def group(self) -> SequenceOf[Request]:
        """Those that are to run together now, and nobody beside them; none where nobody is left."""
        while self._groups:
            self._groups[-1] = [request for request in self._groups[-1] if request.status in _PENDING]
            if self._groups[-1]:
                return self._groups[-1]
            self._groups.pop()
        self.suspicions.clear()
        return ()

    def got(self, request: Request, computed: int) -> None:
        """So many tokens of a request are computed: it may be past where it failed."""
        found = self.suspicions.get(request)
        if found is not None and computed >= found.until:
            del self.suspicions[request]
            self._clear((request,))

    def _clear(self, requests: Iterable[Request]) -> None:
        gone = set(requests)
        groups = ([request for request in group if request not in gone] for group in self._groups)
        self._groups = [group for group in groups if group]


def _units(requests: Iterable[Request]) -> list[list[Request]]:
    """What is not to be told apart: the hypotheses of one search wait for each other."""
    units: dict[Request | BeamSearch, list[Request]] = {}
    for request in requests:
        units.setdefault(unit_of(request), []).append(request)
    return list(units.values())


def unit_of(request: Request) -> Request | BeamSearch:
    """What a request fails with."""
    return request.search if isinstance(request, Hypothesis) else request
