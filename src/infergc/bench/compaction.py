"""What compaction gains and takes: an aged pool, emptied step by step as the engine would do it.

The pool is that of ``bench.heap``: about half of it is held by sequences of log-normal lengths, and what is free lies
between them. The copies are not made; what they would take depends on the model and is told in pages.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns

import numpy as np

from infergc.bench.heap import HeapBench
from infergc.heap.compactor import Compaction, Compactor
from infergc.heap.heap import Heap

_MOST_STEPS = 100_000
_IDLE_CALLS = 20_000
_NO_SLOTS, _NO_ROWS = np.empty(0, np.intp), np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Row:
    """One pool. Times are of the engine's thread, in microseconds a step.

    Attributes:
        pages: in the pool.
        held: share of them that sequences hold.
        before, after: fragmentation ratio.
        whole_before, whole_after: superblocks wholly free.
        steps: that moved pages.
        moved: pages.
        median, p99, longest: of steps that moved pages.
        longest_look: of a step that ranked superblocks or looked at them, and moved none.
        idle: a step where compaction is not worth it.
    """

    pages: int
    held: float
    before: float
    after: float
    whole_before: int
    whole_after: int
    steps: int
    moved: int
    median: float
    p99: float
    longest: float
    longest_look: float
    idle: float


def run(pools: list[int], knobs: Compaction, seed: int) -> Iterator[Row]:
    """Compact each pool until nothing is left to do."""
    for pages in pools:
        yield _measure(HeapBench(pages, seed).heap, knobs)


def _measure(heap: Heap, knobs: Compaction) -> Row:
    (before,), whole, compactor = heap.stats(), _whole(heap), Compactor(heap, knobs)
    steps = list(_steps(heap, compactor))
    times = sorted(spent for moved, spent in steps if moved) or [0]
    looks = [spent for moved, spent in steps if not moved] or [0]
    (after,) = heap.stats()
    return Row(
        before.capacity, before.live / before.capacity, before.fragmentation, after.fragmentation, whole, _whole(heap),
        heap.counters.compactions and len(times), heap.counters.moved, median(times) / 1e3,
        times[int(0.99 * len(times))] / 1e3, times[-1] / 1e3, max(looks) / 1e3, _idle(compactor),
    )  # fmt: skip


def _steps(heap: Heap, compactor: Compactor) -> Iterator[tuple[int, int]]:
    """Compact before one step after the other, until nothing is done; pages moved and nanoseconds of each."""
    for _ in range(_MOST_STEPS):
        before, began = heap.counters.moved, perf_counter_ns()
        work = compactor.compact(compactor.knobs.budget)
        spent = perf_counter_ns() - began
        if not work:
            return
        heap.begin_step(_NO_SLOTS, _NO_ROWS, _NO_ROWS)
        heap.take_moves()
        heap.complete(heap.planning - 1)
        yield heap.counters.moved - before, spent


def _idle(compactor: Compactor) -> float:
    began = perf_counter_ns()
    for _ in range(_IDLE_CALLS):
        compactor.compact(compactor.knobs.budget)
    return (perf_counter_ns() - began) / _IDLE_CALLS / 1e3


def _whole(heap: Heap) -> int:
    space = heap.groups[0].space
    return space.whole // space.width
