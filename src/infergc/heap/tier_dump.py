"""The tiers below the device as plain data: slots by state, who has pages kept there, and what is being moved."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from infergc.heap.host import HostTier
from infergc.heap.moves import TRANSFERS, Move
from infergc.heap.state import HeapState
from infergc.heap.tiers import Tiers

Claims = Iterable[tuple[str, Sequence[bytes]]]  # who, and keys
Steps = Iterable[tuple[int, Sequence[Move]]]  # number, and moves
UNUSED = "none"  # the generation of what has none


def host_groups(heap: HeapState) -> list[dict[str, Any]]:
    """The host tier's part of ``groups`` in ``heap.dump``: a slot has a page of every layer group.

    Pages that are claimed and there are live, those on their way from below in transit. Cost: O(slots).
    """
    if heap.tiers is None:
        return []
    space, counts = heap.tiers.host.space, _by_state(heap.tiers.host)
    return [
        {
            "name": pages.spec.name,
            "tier": "host",
            "page_bytes": pages.spec.page_bytes,
            "capacity": space.capacity,
            "fragmentation": space.fragmentation,
            "pages": {state: {UNUSED: slots} for state, slots in counts.items()},
        }
        for pages in heap.groups
    ]


def tier_dump(heap: HeapState, claims: Claims, steps: Steps) -> dict[str, Any] | None:
    """Who has what kept in the host tier, and what is moved between tiers; None where there is none.

    Pages count once for all layer groups. Keys: ``claims``, a list of {kind, owner, claimed, held, charged}: by the
    ``request`` that gave way or waited for a read, the ``read`` and ``write`` under way, the ``step`` being planned;
    ``held`` of those claimed have a slot, and a slot is charged to the first who claims it, so that charges sum to the
    slots live and in transit; ``unclaimed``, live slots that nobody claims, which is a leak; ``transfers``, a list of
    {step, stored, loaded, runs} of the steps in flight and of that being planned; ``disk``, {pages, reading, writing,
    waiting_jobs} or None.

    Cost: O(slots + claims + moves).

    Args:
        heap: with its tiers.
        claims: of requests, in order.
        steps: in flight.
    """
    tiers = heap.tiers
    if tiers is None:
        return None
    found, unclaimed = _claims(tiers, claims)
    transfers = [_transfer(step, moves) for step, moves in [*steps, (heap.planning, heap.moves)]]
    return {
        "claims": found,
        "unclaimed": unclaimed,
        "transfers": [one for one in transfers if one["runs"]],
        "disk": _disk(tiers),
    }


def _by_state(host: HostTier) -> dict[str, int]:
    """Slots by state, from what lies in each: not from the tables by which they are found."""
    states = dict.fromkeys(("free", "live", "cached", "in_transit"), 0)
    for name in host.names:
        if name is None:
            states["free"] += 1
        elif name.key in host.arriving:
            states["in_transit"] += 1
        else:
            states["live" if name.key in host.claims else "cached"] += 1
    return states


def _claims(tiers: Tiers, requests: Claims) -> tuple[list[dict[str, Any]], int]:
    host, found = tiers.host, []
    left = {*host.held, *host.arriving}
    for kind, owner, keys in _claimants(tiers, requests):
        claimed = set(keys)
        charged = claimed & left
        left -= charged
        held = sum(key in host for key in claimed)
        found.append({"kind": kind, "owner": owner, "claimed": len(claimed), "held": held, "charged": len(charged)})
    return [one for one in found if one["claimed"]], len(left)


def _claimants(tiers: Tiers, requests: Claims) -> Iterator[tuple[str, str, Iterable[bytes]]]:
    for owner, keys in requests:
        yield "request", owner, keys
    if tiers.disk is not None:
        for number, pages in tiers.disk.reads.items():
            yield "read", f"read {number}", [name.key for name in pages]
        yield "write", "disk", tiers.disk.writing
    yield "step", "", tiers.restoring


def _transfer(step: int, moves: Sequence[Move]) -> dict[str, int]:
    """What a step copies, counted in its first layer group: the others' pages go with it."""
    pages, runs = Counter[str](), 0
    for move in moves:
        if move.kind in TRANSFERS and move.group == 0:
            pages[move.kind] += move.pages
            runs += 1
    return {"step": step, "stored": pages["store"], "loaded": pages["load"], "runs": runs}


def _disk(tiers: Tiers) -> dict[str, int] | None:
    disk = tiers.disk
    if disk is None:
        return None
    reading, writing = len(disk.reading), len(disk.writing)
    return {"pages": len(disk.keys), "reading": reading, "writing": writing, "waiting_jobs": disk.waiting_jobs}
