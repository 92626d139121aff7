"""The collector: minor collections, incremental major ones, and trial deletion, each within a budget of work units.

What it does and why: docs/collector.md. It runs at safepoints and reads no clock: who calls it turns microseconds into
units.
"""

from dataclasses import dataclass, field
from enum import Enum

from infergc.heap.generations import SURVIVOR, TENURED, YOUNG
from infergc.heap.heap import Heap
from infergc.heap.trace import Findings, Marking, check_pages, kind_and_owner

KINDS = ("cycles", "minor", "major", "refill")  # of work
_MANY = 1 << 60
_PAGES_A_UNIT = 256  # numpy compares so many counts in the time in which Python looks at one object
_LEAST_PAGES = 2048  # of a slice: looking at who holds them costs as much as these


@dataclass(frozen=True, slots=True)
class Triggers:
    """When collections start.

    Attributes:
        minor_pages: a minor one after so many pages were born in the prefix tree since the last.
        major_pages: a major one after so many since the last.
        watermark: share of a group's pages in use, 0 to 1, above which births weigh double.
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
        garbage: objects that no root reached and that trial deletion had not found.
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


class Collector:
    """Keeps a heap clean.

    Attributes:
        triggers: may be replaced at any time.
        counters: what was done.
        found: what was found wrong since the last ``take_findings``.
    """

    def __init__(self, heap: Heap, triggers: Triggers) -> None:
        self.triggers = triggers
        self.counters = CollectorCounters()
        self.found = Findings()
        self._heap = heap
        self._births_at_minor = self._births_at_major = 0
        self._minor_until = -1  # a minor collection looks at what came of age by this step; -1 when none is under way
        self._phase = Phase.REST
        self._marking: Marking | None = None
        self._group = self._page = 0  # where the sweep goes on
        self._put_off = False  # its next slice did not fit into a pause, and comes first in the next one

    # ---- what the engine calls

    def collect(self, budget: int) -> int:
        """Do what is due, about ``budget`` units of it at most; returns the work done. Cost: O(budget)."""
        work = self.major(budget) if self._put_off else 0
        work += self._cycles(budget - work)
        if work < budget and self._minor_due():
            work += self._minor(budget - work)
        if work < budget and (self._phase is not Phase.REST or self._major_due()):
            work += self.major(budget - work, alone=not work)
        return work + self._refill(budget - work)

    def idle(self, budget: int) -> int:
        """Nothing runs: do what is due, and go on with a major collection. Returns the work done, 0 when all is done.

        After a major collection it rests until something was born or dropped.
        """
        work = self.major(budget) if self._put_off else 0
        work += self._cycles(budget - work)
        if work < budget and self._births_since(self._births_at_minor):
            work += self._minor(budget - work)
        if work < budget and (self._phase is not Phase.REST or self._births_since(self._births_at_major)):
            work += self.major(budget - work, alone=not work)
        return work + self._refill(budget - work)

    def major(self, budget: int, *, alone: bool = True) -> int:
        """Begin a major collection or go on with it; returns the work done.

        Cost: O(budget). A slice of the page sweep costs no less than looking at who holds them: one over the budget
        is made only if it is ``alone`` in its pause. Else it is put off, and comes first in the next.
        """
        if self._phase is Phase.REST:
            self._births_at_major = self._births
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

        Returns what was wrong, this time only. Cost: O(capacity + objects + nodes).
        """
        before, self.found = self.found, Findings()
        self._cycles(_MANY)
        if self._phase is not Phase.REST:
            self.major(_MANY)  # what is under way began before
        self.major(_MANY)
        for group in range(len(self._heap.groups)):
            tree = self._heap.tree_references(group)
            self._note(check_pages(self._heap, group, 0, len(tree), tree))
        found, self.found = self.found, before
        self.found.add(found)
        return found

    def take_findings(self) -> Findings:
        """What was found wrong since the last call."""
        taken, self.found = self.found, Findings()
        return taken

    # ---- cycles and minor collections

    def _cycles(self, budget: int) -> int:
        work = self._heap.collect_cycles(budget)
        self.counters.units["cycles"] += work
        return work

    def _minor(self, budget: int) -> int:
        """Look at the young that came of age."""
        if self._minor_until < 0:
            self._minor_until, self._births_at_minor = self._heap.planning, self._births
        work = self._heap.tree.generations.look(YOUNG, self._minor_until, budget)
        if work < budget:
            self._minor_until = -1
            self.counters.minor += 1
        self.counters.units["minor"] += work
        return work

    def _refill(self, budget: int) -> int:
        """Free cached pages until as many are free as should be."""
        work = self._heap.reclaimer.refill(budget, self._heap.planning)
        self.counters.units["refill"] += work
        return work

    @property
    def _births(self) -> int:
        return self._heap.counters.sealed

    def _births_since(self, then: int) -> int:
        births = self._births - then
        return 2 * births if self._crowded() else births

    def _minor_due(self) -> bool:
        return self._minor_until >= 0 or self._births_since(self._births_at_minor) >= self.triggers.minor_pages

    def _major_due(self) -> bool:
        return self._births_since(self._births_at_major) >= self.triggers.major_pages

    def _crowded(self) -> bool:
        low = 1 - self.triggers.watermark
        return any(pages.space.free < low * pages.spec.capacity for pages in self._heap.groups)

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
        """Look at survivors and tenured nodes that came of age."""
        generations, step = self._heap.tree.generations, self._heap.planning
        work = generations.look(SURVIVOR, step, budget)
        if work < budget:
            work += generations.look(TENURED, step, budget - work)
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
