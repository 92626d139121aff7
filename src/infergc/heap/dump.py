"""The heap as plain data: pages by state and generation, and who holds them; for metrics and people.

Every page stands in one place, so that the sums are those of ``HeapState.stats``: a live page is charged to the oldest
object that holds it, a page in transit to the earliest step, and a live page that no object holds is ``unowned``: it
leaked.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infergc.heap.generations import GENERATIONS
from infergc.heap.objects import BeamGroup, HeapObject, Pin, Sequence, Session
from infergc.heap.space import Extent
from infergc.heap.state import HeapState
from infergc.heap.tier_dump import Claims, Steps, host_groups, tier_dump

STATES = ("free", "live", "cached", "in_transit")
_FREE, _LIVE, _CACHED, _TRANSIT = range(len(STATES))
_UNUSED = "none"  # the generation of a free page


@dataclass(frozen=True, slots=True)
class Census:
    """The pages of a layer group, one entry a page.

    Attributes:
        state: its place in ``STATES``.
        generation: its place in ``GENERATIONS``; what is not in the prefix tree is young.
    """

    state: NDArray[np.int8]
    generation: NDArray[np.int8]

    def by_state(self) -> dict[str, dict[str, int]]:
        """Pages by state and generation. Cost: O(capacity) array work."""
        width = len(GENERATIONS)
        counts = np.bincount(self.state * width + self.generation, minlength=len(STATES) * width).reshape(-1, width)
        figures = {state: _named(row) for state, row in zip(STATES, counts.tolist(), strict=True)}
        return {**figures, STATES[_FREE]: {_UNUSED: sum(counts[_FREE].tolist())}}


def census(heap: HeapState, group: int) -> Census:
    """Look at every page of a layer group, by its count, its seal and what is in flight.

    Cost: O(capacity + extents in flight) array work.
    """
    pages = heap.groups[group]
    in_flight: NDArray[np.int32] = np.zeros(pages.spec.capacity, np.int32)
    for extents in _flights(heap, group).values():
        for first, length in extents:
            in_flight[first : first + length] += 1
    state = np.full(pages.spec.capacity, _LIVE, np.int8)
    state[pages.sealed & (pages.count == 1)] = _CACHED
    state[(in_flight > 0) & (pages.count - pages.sealed == in_flight)] = _TRANSIT
    state[pages.count <= 0] = _FREE
    return Census(state, np.where(pages.sealed, pages.generation, 0).astype(np.int8))


def pages_by_generation(heap: HeapState) -> dict[str, dict[str, dict[str, int]]]:
    """Pages by group, state and generation. Cost: as ``census``, for each group."""
    return {pages.spec.name: census(heap, at).by_state() for at, pages in enumerate(heap.groups)}


def dump(heap: HeapState, claims: Claims = (), copying: Steps = ()) -> dict[str, Any]:
    """Everything about who holds what.

    Keys: ``page_tokens``; ``step`` being planned; ``groups``, a list of {name, tier, page_bytes, capacity,
    fragmentation, pages {state: {generation: pages}}, pinned pages, pin_budget}; ``objects`` of the graph, oldest
    first: {id, kind, owner, session, pinned, roots, refs, holds, groups {group: {held, charged {generation: pages}}}};
    ``in_flight``: {step, groups as before}; ``unowned`` {group: {generation: pages}}; ``tree`` {namespaces, nodes
    {generation: nodes}}; ``tiers``, see ``heap.tier_dump``. Behind the groups of the device stand those of the host
    tier, without pins, their pages of the generation "none".

    Cost: O(capacity + extents + objects + nodes), mostly array work, and as ``tier_dump``.

    Args:
        heap: to look at.
        claims: of requests on pages of the host tier: who, and keys.
        copying: steps in flight: number, and moves.
    """
    counts = [census(heap, group) for group in range(len(heap.groups))]
    sequences = sorted(heap.sequences.values(), key=lambda one: one.id)
    steps = sorted({hold.step for hold in heap.held})
    held: dict[int, dict[str, Any]] = {one.id: {} for one in sequences}
    flown: dict[int, dict[str, Any]] = {step: {} for step in steps}
    unowned = {}
    for group, figures in enumerate(counts):
        name = heap.groups[group].spec.name
        rows = [heap.extents(one, group) for one in sequences]
        shares, unowned[name] = _shares(figures, _LIVE, rows)
        for one, share in zip(sequences, shares, strict=True):
            held[one.id][name] = share
        flights = _flights(heap, group)
        for step, share in zip(
            steps, _shares(figures, _TRANSIT, [flights.get(at, []) for at in steps])[0], strict=True
        ):
            flown[step][name] = share
    return {
        "page_tokens": heap.page_tokens,
        "step": heap.planning,
        "groups": [*(_group(heap, group, figures) for group, figures in enumerate(counts)), *host_groups(heap)],
        "objects": [_object(one, held.get(one.id, {})) for one in sorted(heap.graph, key=lambda one: one.id)],
        "in_flight": [{"step": step, "groups": groups} for step, groups in flown.items()],
        "unowned": unowned,
        "tree": _tree(heap),
        "tiers": tier_dump(heap, claims, copying),
    }


def _group(heap: HeapState, group: int, figures: Census) -> dict[str, Any]:
    pages = heap.groups[group]
    return {
        "name": pages.spec.name,
        "tier": "device",
        "page_bytes": pages.spec.page_bytes,
        "capacity": pages.spec.capacity,
        "fragmentation": pages.space.fragmentation,
        "pages": figures.by_state(),
        "pinned": _pinned(heap, group),
        "pin_budget": heap.pin_budget,
    }


def _pinned(heap: HeapState, group: int) -> int:
    """Pages that pins hold, from their extents, each counted once."""
    held: NDArray[np.bool_] = np.zeros(heap.groups[group].spec.capacity, np.bool_)
    for one in heap.sequences.values():
        if isinstance(one, Pin):
            for first, pages in one.parked[group]:
                held[first : first + pages] = True
    return int(np.count_nonzero(held))


def _object(one: HeapObject, groups: dict[str, Any]) -> dict[str, Any]:
    session = next((held.owner for held in one.holds.values() if isinstance(held, Session)), "")
    parked = isinstance(one, Sequence) and one.slot < 0
    return {
        "id": one.id,
        "kind": _kind(one),
        "owner": one.owner,
        "session": session if isinstance(one, Sequence) else "",
        "pinned": isinstance(one, Pin) or (parked and bool(session)),
        "roots": one.roots,
        "refs": one.refs,
        "holds": sorted(one.holds),
        "groups": groups,
    }


def _kind(one: HeapObject) -> str:
    match one:
        case Session():
            return "session"
        case BeamGroup():
            return "beam_group"
        case Pin():
            return "pin"
        case Sequence(slot=-1):
            return "parked"
        case _:
            return "request"


def _tree(heap: HeapState) -> dict[str, Any]:
    nodes = Counter(node.generation for node in heap.tree.nodes())
    return {"namespaces": len(heap.tree.roots), "nodes": _named([nodes[at] for at in range(len(GENERATIONS))])}


def _flights(heap: HeapState, group: int) -> dict[int, list[Extent]]:
    """Extents that work in flight holds, by step."""
    found: dict[int, list[Extent]] = {}
    for hold in heap.held:
        found.setdefault(hold.step, []).extend(extent for at, extent in hold.extents() if at == group)
    return found


def _shares(figures: Census, state: int, holders: list[list[Extent]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """What each holder holds, with the pages of this state charged to the first who does; and those nobody holds."""
    first = np.full(len(figures.state), len(holders), np.int64)
    for at in reversed(range(len(holders))):
        for page, length in holders[at]:
            first[page : page + length] = at
    mine = figures.state == state
    width = len(GENERATIONS)
    counts = np.bincount(first[mine] * width + figures.generation[mine], minlength=(len(holders) + 1) * width)
    rows = counts.reshape(-1, width).tolist()
    held = [sum(length for _, length in extents) for extents in holders]
    shares = [{"held": pages, "charged": _named(row)} for pages, row in zip(held, rows, strict=False)]
    return shares, _named(rows[-1])


def _named(row: list[int]) -> dict[str, int]:
    return dict(zip(GENERATIONS, row, strict=True))
