"""What a heap is shaped like and what it counts."""

from collections import Counter
from dataclasses import dataclass, field

from infergc.heap.generations import Ages
from infergc.heap.groups import GroupSpec


@dataclass(frozen=True, slots=True)
class HeapConfig:
    """Shape of a heap: its layer groups with capacities, tokens in a page, most open sequences, and further knobs.

    ``pin_share`` is the share of the pages that pins may hold, 0 to 1. ``host_slots`` pages, of every layer group, fit
    into the host tier, 0: there is none; ``disk``: there is a disk tier below it.
    """

    groups: tuple[GroupSpec, ...]
    page_tokens: int
    max_sequences: int
    prefix_caching: bool = True
    ages: Ages = field(default_factory=Ages)
    pin_share: float = 0.1
    host_slots: int = 0
    disk: bool = False


@dataclass(slots=True)
class HeapCounters:
    """Running totals since start, in pages unless said."""

    copies: int = 0  # copy-on-write, counted per group
    evicted: int = 0  # cached prefix pages given up for space, counted once for all groups
    evicted_for: Counter[str] = field(default_factory=Counter)  # the same by reason, see heap.reclaim.REASONS
    granted: int = 0  # pages of their own that sequences were given, counted once for all groups
    sealed: int = 0  # pages published, counted once for all groups
    deduplicated: int = 0  # pages swapped for identical ones at publication, counted once
    refusals: int = 0  # reservations refused
    cycles: int = 0  # times that trial deletion found garbage
    cycle_objects: int = 0  # heap objects that it freed
    compactions: int = 0  # superblocks emptied, counted per group
    moved: int = 0  # pages moved for it, counted per group


@dataclass(frozen=True, slots=True)
class GroupStats:
    """Pages of a layer group by state. free + live + cached + in_transit = capacity (law 1).

    ``fragmentation`` is the share of the free pages that lie in superblocks of which something is held, 0 to 1.
    """

    name: str
    capacity: int
    free: int
    live: int
    cached: int
    in_transit: int
    fragmentation: float
