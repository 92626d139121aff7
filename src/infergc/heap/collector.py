"""The collector: minor collections, incremental major ones, and trial deletion, each within a budget of work units.

What it does and why: docs/collector.md. It runs at safepoints and reads no clock: who calls it turns microseconds into
units.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from infergc.heap.generations import SURVIVOR, TENURED, YOUNG
from infergc.heap.heap import Heap
from infergc.heap.trace import Findings, Marking, check_pages, kind_and_owner

KINDS = ("cycles", "minor", "major", "refill")  # of work, in the order in which they are done
_MANY = 1 << 60
_PAGES_A_UNIT = 256  # numpy compares so many counts in the time in which Python looks at one object
_LEAST_PAGES = 2048  # of a slice: looking at who holds them costs as much as these


@dataclass(frozen=True, slots=True)
class Triggers:
    """When collections start.

    Attributes:
        minor_pages: a minor one after so many pages were born in the prefix tree since the last.
        major_pages: a major one after so many were given to sequences since the last.
        watermark: share of a group's pages in use by anything but the cache, 0 to 1, above which pages weigh double.
    """

    minor_pages: int = 256
    major_pages: int = 16384
    watermark: float = 0.9


@dataclass(slots=True)
class CollectorCounters:
    """Running totals since start.

    Attributes:
        minor, major: collections that were completed.
        units: work done, by kind of collection.
        leaks: references that no object held, in pages.
        garbage: objects that no root reached and that trial deletion would not have found.
        corrupt: places where counts were too low.
    """

    minor: int = 0
    major: int = 0
    units: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    leaks: int = 0
    garbage: int = 0
    corrupt: int = 0


class Phase(Enum):
    """Where a major collection stands."""

    REST = 0
    AGE = 1
    MARK = 2
    LOOK = 3
    SWEEP = 4


class Turn(NamedTuple):
    """What one kind of work may do in a pause.

    Attributes:
        budget: units of work.
        idle: nothing runs.
        alone: nothing else was done in this pause.
    """

    budget: int
    idle: bool = False
    alone: bool = True


class Collector:
    """Keeps a heap clean.

    Attributes:
        triggers: may be replaced at any time.
        counters: what was done.
        found: what slices of major collections found wrong since the last ``take_findings``.
    """

    def __init__(self, heap: Heap, triggers: Triggers) -> None:
        self.triggers = triggers
        self.counters = CollectorCounters()
        self.found = Findings()
        self._heap = heap
        self._births_at_minor = self._granted_at_major = 0
        self._in_minor = False  # whether a minor collection is under way
        self._first = 0  # the kind of work that has the first turn in the next call
        self._phase = Phase.REST
        self._began = 0  # the step at which the major collection under way began
        self._marking: Marking | None = None
        self._group = self._page = 0  # where the sweep goes on
        self._put_off = False  # its next slice did not fit into a pause, and comes first in the next one

    # ---- what the engine calls

    def collect(self, budget: int, *, idle: bool = False) -> int:
        """Do what is due, about ``budget`` units of it at most; returns the work done.

        When the budget does not last for all kinds of work, the next call goes on with the kind that had no turn: so
        each has a turn at least once in as many calls as there are kinds.

        Args:
            budget: units of work, at least 1.
            idle: nothing runs, so everything is due for which there is anything to do; 0 is returned when all is done.
                After a major collection that is when a page was given to a sequence.

        Cost: O(budget), and O(what a candidate reaches) beyond it.
        """
        work = self.major(budget) if self._put_off else 0
        kinds = (self._cycles, self._minor, self._major, self._refill)
        turns = 0
        while turns < len(kinds) and work < budget:
            work += kinds[(self._first + turns) % len(kinds)](Turn(budget - work, idle, alone=not work))
            turns += 1
        self._first = (self._first + turns) % len(kinds) if turns < len(kinds) else 0
        return work

    def major(self, budget: int, *, alone: bool = True) -> int:
        """Begin a major collection or go on with it; returns the work done.

        Cost: O(budget). A slice of the page sweep costs no less than looking at who holds them: one over the budget
        is made only if it is ``alone`` in its pause. Else it is put off, and comes first in the next.
        """
        if self._phase is Phase.REST:
            self._granted_at_major, self._began = self._heap.counters.granted, self._heap.planning
            self._phase = Phase.AGE
        work, self._put_off = 0, False
        while work < budget and self._phase is not Phase.REST and not self._put_off:
            if (alone and not work) or self._fits(budget - work):
                work += self._slice(budget - work)
            else:
                self._put_off = True
        self.counters.units["major"] += work
        return work

    def verify(self) -> Findings:
        """Collect everything now, trace from the roots, recount every page from raw tables, and mend what is wrong.

        Returns what was wrong, this time only; ``take_findings`` does not tell it again.
        Cost: O(capacity + objects + nodes).
        """
        before, self.found = self.found, Findings()
        self._cycles(Turn(_MANY))
        if self._phase is not Phase.REST:
            self.major(_MANY)  # what is under way began before
        self.major(_MANY)
        for group in range(len(self._heap.groups)):
            tree = self._heap.tree_references(group)
            self._note(check_pages(self._heap, group, 0, len(tree), tree))
        found, self.found = self.found, before
        return found

    def take_findings(self) -> Findings:
        """What was found wrong since the last call."""
        taken, self.found = self.found, Findings()
        return taken

    # ---- kinds of work

    def _cycles(self, turn: Turn) -> int:
        work = self._heap.collect_cycles(turn.budget)
        self.counters.units["cycles"] += work
        return work

    def _minor(self, turn: Turn) -> int:
        """Look at the young that came of age, if it is time."""
        generations, step = self._heap.tree.generations, self._heap.planning
        if not self._in_minor:
            if not (generations.of_age(YOUNG, step) if turn.idle else self._minor_due()):
                return 0
            self._in_minor, self._births_at_minor = True, self._heap.counters.sealed
        work = generations.look(YOUNG, step, turn.budget)
        if work < turn.budget:
            self._in_minor = False
            self.counters.minor += 1
        self.counters.units["minor"] += work
        return work

    def _major(self, turn: Turn) -> int:
        """Go on with a major collection, or begin one if it is time."""
        due = 1 if turn.idle else self.triggers.major_pages
        if self._phase is Phase.REST and self._weighed(self._heap.counters.granted - self._granted_at_major) < due:
            return 0
        return self.major(turn.budget, alone=turn.alone)

    def _refill(self, turn: Turn) -> int:
        """Free cached pages until as many are free as should be."""
        work = self._heap.reclaimer.refill(turn.budget, self._heap.planning)
        self.counters.units["refill"] += work
        return work

    def _minor_due(self) -> bool:
        births = self._heap.counters.sealed - self._births_at_minor
        return self._weighed(births) >= self.triggers.minor_pages

    def _weighed(self, pages: int) -> int:
        low = 1 - self.triggers.watermark
        is_crowded = any(pages.grantable < low * pages.spec.capacity for pages in self._heap.groups)
        return 2 * pages if is_crowded else pages

    # ---- slices of a major collection

    def _fits(self, budget: int) -> bool:
        return self._phase is not Phase.SWEEP or self._sweep_units(self._group) <= budget

    def _slice(self, budget: int) -> int:
        match self._phase:
            case Phase.AGE:
                return self._age(budget)
            case Phase.MARK:
                return self._mark(budget)
            case Phase.LOOK:
                return self._look(budget)
            case _:
                return self._sweep_pages(budget)

    def _age(self, budget: int) -> int:
        """Look at survivors and tenured nodes that had come of age when the collection began."""
        generations, step = self._heap.tree.generations, self._heap.planning
        work = generations.look(SURVIVOR, step, budget, self._began)
        if work < budget:
            work += generations.look(TENURED, step, budget - work, self._began)
        if work < budget:
            self._phase, self._marking = Phase.MARK, Marking(self._heap.graph)
        return work

    def _mark(self, budget: int) -> int:
        assert self._marking is not None
        work = self._marking.mark(budget)
        if work < budget:
            self._phase = Phase.LOOK
        return work

    def _look(self, budget: int) -> int:
        assert self._marking is not None
        work = self._marking.look(budget)
        if work < budget:
            garbage = self._marking.sweep()
            self._note(Findings(garbage=[f"garbage: {kind_and_owner(one)}" for one in garbage]))
            self._phase, self._marking = Phase.SWEEP, None
            self._group = self._page = 0
        return work

    def _sweep_units(self, group: int) -> int:
        """The least that a slice of the page sweep costs."""
        return self._heap.table_units(group) + _LEAST_PAGES // _PAGES_A_UNIT

    def _sweep_pages(self, budget: int) -> int:
        """Check the counts of the next pages."""
        pages = self._heap.groups[self._group]
        low, overhead = self._page, self._heap.table_units(self._group)
        high = min(low + max(_LEAST_PAGES, (budget - overhead) * _PAGES_A_UNIT), pages.spec.capacity)
        self._note(check_pages(self._heap, self._group, low, high))
        self._page = high
        if high == pages.spec.capacity:
            self._group, self._page = self._group + 1, 0
            if self._group == len(self._heap.groups):
                self._phase = Phase.REST
                self.counters.major += 1
        return overhead + (high - low) // _PAGES_A_UNIT

    def _note(self, found: Findings) -> None:
        self.found.add(found)
        self.counters.leaks += sum(leak.pages * leak.references for leak in found.leaks)
        self.counters.garbage += len(found.garbage)
        self.counters.corrupt += len(found.corrupt)
