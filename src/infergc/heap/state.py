"""The raw state of a heap: the tables and objects that its operations change and its laws are stated over."""

import numpy as np
from numpy.typing import NDArray

from infergc.heap.disk import DiskTier
from infergc.heap.generations import Generations
from infergc.heap.graph import ObjectGraph
from infergc.heap.host import HostTier
from infergc.heap.moves import Move
from infergc.heap.nodes import Node
from infergc.heap.objects import InFlight, Sequence, StepReads
from infergc.heap.pages import Pages, page_numbers
from infergc.heap.provenance import Owners
from infergc.heap.retention import Retention
from infergc.heap.space import Extent
from infergc.heap.stats import GroupStats, HeapConfig, HeapCounters
from infergc.heap.tables import BlockTables
from infergc.heap.tiers import Tiers
from infergc.heap.tree import PrefixTree


class HeapState:
    """What is held, by whom.

    Attributes:
        graph: heap objects and the references between them.
        groups, tables: pages and block tables of each layer group.
        tree: the prefix tree over all groups.
        tiers: what lies below the device; None if nothing does.
        sequences: sequences that hold pages, by id.
        held: references that work in flight keeps: roots.
        moves: what the step being planned must move first, in order.
        flights: what each planned step reads and writes, until it is done.
        owners: names of sequences that are gone.
        length: token slots granted, by slot.
        barrier: whether the tail page may be shared, by slot.
        holder: id of the open sequence, by slot; -1 where there is none.
        pinned: pages that pins hold, in each group, shared ones counted once.
        pin_share, pin_budget: how many they may hold at most, as a share and as a number.
        planning: the step being planned.
        completed: the last step known to be done, -1 before the first.
    """

    graph: ObjectGraph

    def __init__(self, config: HeapConfig, retention: Retention) -> None:
        self.config = config
        self.page_tokens = config.page_tokens
        self.groups = tuple(self._pages_of(group) for group in range(len(config.groups)))
        self.tables = tuple(BlockTables(config.max_sequences) for _ in config.groups)
        capacities = tuple(spec.capacity for spec in config.groups)
        retention.begin(min(capacities), config.page_tokens)
        generations = Generations(config.ages, self._moved_generation)
        self.tree = PrefixTree(config.page_tokens, capacities, retention, generations)
        self.tiers = self._tiers_of(config)
        self.sequences: dict[int, Sequence] = {}
        self.held: list[InFlight] = []
        self.moves: list[Move] = []
        self.flights: dict[int, StepReads] = {}
        self.counters = HeapCounters()
        self.owners = Owners()
        self.length: NDArray[np.int32] = np.zeros(config.max_sequences, np.int32)
        self.barrier: NDArray[np.bool_] = np.zeros(config.max_sequences, np.bool_)
        self.holder: NDArray[np.int64] = np.full(config.max_sequences, -1, np.int64)
        self.pinned = 0
        self.pin_share = 0.0
        self.pin_budget = 0
        self.allow_pins(config.pin_share)
        self.planning = 0
        self.completed = -1

    @property
    def disk(self) -> DiskTier | None:
        """The disk tier, None without one."""
        return None if self.tiers is None else self.tiers.disk

    def pins_within(self, share: float) -> int:
        """Pages that this share comes to, 0 to 1, in the group that has fewest."""
        return int(share * min(spec.capacity for spec in self.config.groups))

    def allow_pins(self, share: float) -> None:
        """Let pins hold this share of the pages. They hold no more than that already (law 6)."""
        self.pin_share, self.pin_budget = share, self.pins_within(share)

    def _tiers_of(self, config: HeapConfig) -> Tiers | None:
        if not config.host_slots:
            return None
        host = HostTier(config.host_slots, config.page_tokens)
        disk = DiskTier(host, self.tree.unsaved) if config.disk else None
        return Tiers(host, disk, self._plan_move, config.page_tokens)

    def _plan_move(self, move: Move) -> None:
        self.moves.append(move)

    def _moved_generation(self, node: Node) -> None:
        for pages, column in zip(self.groups, node.pages, strict=True):
            pages.generation[column.view()] = node.generation
        self.tree.order.renew(node)

    def extents(self, sequence: Sequence, group: int) -> list[Extent]:
        """What a sequence holds in a group, in order. Cost: O(extents)."""
        if sequence.slot < 0:
            return sequence.parked[group]
        return self.tables[group].row(sequence.slot)

    def parked(self) -> list[Sequence]:
        """Sequences without a slot. Cost: O(sequences) if there are any."""
        if len(self.sequences) == int(np.count_nonzero(self.holder >= 0)):
            return []
        return [sequence for sequence in self.sequences.values() if sequence.slot < 0]

    def in_flight(self, group: int) -> list[Extent]:
        """What work in flight holds in a group, the earliest step first. Cost: O(extents in flight)."""
        return [extent for hold in self.held for at, extent in hold.extents() if at == group]

    def tree_references(self, group: int) -> NDArray[np.int32]:
        """References of the prefix tree to each page of a group, from its nodes. Cost: O(capacity + nodes)."""
        counts = np.zeros(self.groups[group].spec.capacity, np.int32)
        for node in self.tree.nodes():
            np.add.at(counts, node.pages[group].view(), 1)
        return counts

    def table_units(self, group: int) -> int:
        """What looking through all holders of a group's pages once costs, in units: one an object or 64 entries."""
        parked = len(self.sequences) - int(np.count_nonzero(self.holder >= 0))
        table = self.tables[group]
        return 16 + int(table.extents.max(initial=0)) * len(table.extents) // 64 + parked + len(self.held)

    def hold(self, step: int, group: int, extents: list[Extent]) -> None:
        """Let work in flight take over references until ``step`` is done (law 5). Cost: O(1)."""
        if not self.held or self.held[-1].step != step:
            self.held.append(InFlight(step))
        self.held[-1].held.append((group, extents))

    def stats(self) -> tuple[GroupStats, ...]:
        """Pages by state, per group; they add up to the capacity (law 1). Cost: O(pages held in flight)."""
        return tuple(self._group_stats(index) for index in range(len(self.groups)))

    def _pages_of(self, group: int) -> Pages:
        """The pages of a group, all of them free; a heap for debugging has others."""
        return Pages(self.config.groups[group], self.config.page_tokens)

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
        numbers, holds = np.unique(page_numbers(self.in_flight(group)), return_counts=True)
        pages = self.groups[group]
        return int(np.count_nonzero(pages.count[numbers] - pages.sealed[numbers] == holds))
