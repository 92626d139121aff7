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

Unit = Request | BeamSearch  # what is not to be told apart: the hypotheses of one search wait for each other


@dataclass(slots=True)
class Suspicion:
    """What is held against a request, or a search.

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
    """

    def __init__(self) -> None:
        self.retried = 0
        self._groups: list[list[Unit]] = []  # the last runs first
        self._suspicions: dict[Unit, Suspicion] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def accuse(self, steps: Mapping[Request, range], *, alone: bool) -> list[Request]:
        """These ran in a failed step; returns those that are guilty. The others are to run again.

        Args:
            steps: request → positions that were to be computed.
            alone: whether that was the whole step, and these are one request or one search.
        """
        places: dict[Unit, range] = {}
        for request, place in steps.items():
            known = places.setdefault(unit_of(request), place)
            places[unit_of(request)] = range(min(known.start, place.start), max(known.stop, place.stop))
        for unit, place in places.items():
            self._suspicions.setdefault(unit, Suspicion()).add(place, alone=alone)
        proven = {unit for unit in places if self._suspicions[unit].proven}
        self._separate([unit for unit in places if unit not in proven])
        for unit in proven:
            self._clear((unit,))
            del self._suspicions[unit]
        guilty = [request for request in steps if unit_of(request) in proven]
        self.retried += len(steps) - len(guilty)
        return guilty

    def set_apart(self, units: Mapping[Unit, int]) -> None:
        """These may be to blame for what failed elsewhere: they run apart until so many tokens of each are computed."""
        for unit, until in units.items():
            self._suspicions.setdefault(unit, Suspicion()).until = until
        self._separate(list(units))

    def group(self) -> SequenceOf[Request]:
        """Those that are to run together now, and nobody beside them; none where nobody is left."""
        while self._groups:
            pending = [one for unit in self._groups[-1] for one in _members(unit) if one.status in _PENDING]
            if pending:
                return pending
            self._groups.pop()
        self._suspicions.clear()
        return ()

    def got(self, request: Request, computed: int) -> None:
        """So many tokens of a request are computed: it may be past where it failed."""
        unit = unit_of(request)
        found = self._suspicions.get(unit)
        if found is not None and computed >= found.until:
            del self._suspicions[unit]
            self._clear((unit,))

    def _separate(self, units: list[Unit]) -> None:
        """Let these run in two halves, the first of them next."""
        self._clear(units)
        half = len(units) // 2
        self._groups += [part for part in (units[half:], units[:half]) if part]

    def _clear(self, units: Iterable[Unit]) -> None:
        gone = set(units)
        groups = ([unit for unit in group if unit not in gone] for group in self._groups)
        self._groups = [group for group in groups if group]


def unit_of(request: Request) -> Unit:
    """What a request fails with."""
    return request.search if isinstance(request, Hypothesis) else request


def _members(unit: Unit) -> SequenceOf[Request]:
    return unit.members if isinstance(unit, BeamSearch) else (unit,)
