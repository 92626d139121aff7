"""The raw state of a heap: the tables and objects that its operations change and its laws are stated over."""

import numpy as np
from numpy.typing import NDArray

from infergc.heap.moves import Move
from infergc.heap.objects import InFlight, Sequence, StepReads
from infergc.heap.pages import Pages, page_numbers
from infergc.heap.retention import Retention
from infergc.heap.space import Extent
from infergc.heap.stats import GroupStats, HeapConfig, HeapCounters
from infergc.heap.tables import BlockTables
from infergc.heap.tree import PrefixTree


class HeapState:
    """What is held, by whom.

    Attributes:
        groups, tables: pages and block tables of each layer group.
        tree: the prefix tree over all groups.
        sequences: open sequences by id: roots.
        held: references that work in flight keeps: roots.
        moves: what the step being planned must move first, in order.
        flights: what each planned step reads and writes, until it is done.
        length: token slots granted, by slot.
        barrier: whether the tail page may be shared, by slot.
        holder: id of the open sequence, by slot; -1 where there is none.
        planning: the step being planned.
        completed: the last step known to be done, -1 before the first.
    """

    def __init__(self, config: HeapConfig, retention: Retention) -> None:
        self.config = config
        self.page_tokens = config.page_tokens
        self.groups = tuple(Pages(spec, config.page_tokens) for spec in config.groups)
        self.tables = tuple(BlockTables(config.max_sequences) for _ in config.groups)
        self.tree = PrefixTree(config.page_tokens, tuple(spec.capacity for spec in config.groups), retention)
        self.sequences: dict[int, Sequence] = {}
        self.held: list[InFlight] = []
        self.moves: list[Move] = []
        self.flights: dict[int, StepReads] = {}
        self.counters = HeapCounters()
        self.length: NDArray[np.int32] = np.zeros(config.max_sequences, np.int32)
        self.barrier: NDArray[np.bool_] = np.zeros(config.max_sequences, np.bool_)
        self.holder: NDArray[np.int64] = np.full(config.max_sequences, -1, np.int64)
        self.planning = 0
        self.completed = -1

    def hold(self, step: int, group: int, extents: list[Extent]) -> None:
        """Let work in flight take over references until ``step`` is done (law 5). Cost: O(1)."""
        if not self.held or self.held[-1].step != step:
            self.held.append(InFlight(step))
        self.held[-1].held.append((group, extents))

    def stats(self) -> tuple[GroupStats, ...]:
        """Pages by state, per group; they add up to the capacity (law 1). Cost: O(pages held in flight)."""
        return tuple(self._group_stats(index) for index in range(len(self.groups)))

    def _group_stats(self, group: int) -> GroupStats:
        pages = self.groups[group]
        transit = self._in_transit(group)
        cached = int(pages.cached)  # numpy counts it, and figures are plain data
        space, capacity = pages.space, pages.spec.capacity
        live = capacity - space.free - cached - transit
        return GroupStats(pages.spec.name, capacity, space.free, live, cached, transit, space.fragmentation)

    def _in_transit(self, group: int) -> int:
        """Pages that only work in flight keeps (and perhaps the tree)."""
        if not self.held:
            return 0
        extents = [extent for hold in self.held for at, extent in hold.extents() if at == group]
        numbers, holds = np.unique(page_numbers(extents), return_counts=True)
        pages = self.groups[group]
        return int(np.count_nonzero(pages.count[numbers] - pages.sealed[numbers] == holds))
