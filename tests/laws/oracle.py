"""What the heap should say, found the slow way from raw tables, nodes and holds; and dumps to compare."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace, Node
from infergc.heap.objects import Sequence


class LawBroken(AssertionError):  # noqa: N818 - it names what happened
    """The world around the heap saw a law broken; the message begins with the law."""


def references(heap: Heap, group: int) -> NDArray[np.int64]:
    """References to each page by sequences, prefix tree and work in flight."""
    counts = np.zeros(heap.groups[group].spec.capacity, np.int64)
    for sequence in heap.sequences.values():
        for page in row_pages(heap, group, sequence):
            counts[page] += 1
    for hold in heap.held:
        for at, (first, length) in hold.extents():
            if at == group:
                counts[first : first + length] += 1
    return counts + sealed_pages(heap, group)


def sealed_pages(heap: Heap, group: int) -> NDArray[np.int64]:
    """References to each page by the prefix tree: 0 or 1."""
    counts = np.zeros(heap.groups[group].spec.capacity, np.int64)
    for node in heap.tree.nodes():
        for page in node.pages[group].view():
            counts[page] += 1
    return counts


def row_pages(heap: Heap, group: int, sequence: Sequence) -> list[int]:
    """A sequence's physical pages, in order."""
    extents = heap.tables[group].row(sequence.slot) if sequence.slot >= 0 else sequence.parked[group]
    return [page for first, length in extents for page in range(first, first + length)]


def reachable(heap: Heap) -> set[int]:
    """Ids of the objects that roots reach."""
    found = {one.id for one in heap.graph if one.roots}
    front = [one for one in heap.graph if one.roots]
    while front:
        fresh = [held for held in front.pop().holds.values() if held.id not in found]
        found |= {held.id for held in fresh}
        front += fresh
    return found


def in_use(heap: Heap) -> int:
    """Superblocks that will be in use, over all groups, when the work in flight is done."""
    total = 0
    for group, pages in enumerate(heap.groups):
        counts = references(heap, group)
        for hold in heap.held:
            for at, (first, length) in hold.extents():
                if at == group:
                    counts[first : first + length] -= 1
        total += len(np.unique(np.flatnonzero(counts) // pages.space.width))
    return total


def grants(heap: Heap, wants: list[tuple[Sequence, int]]) -> bool:
    """Whether law 9 grants this reservation: in every group, need ≤ free + reclaimable."""
    return all(_need(heap, group, wants) <= _available(heap, group) for group in range(len(heap.groups)))


def _available(heap: Heap, group: int) -> int:
    counts, sealed = references(heap, group), sealed_pages(heap, group)
    return int(np.count_nonzero(counts == 0) + np.count_nonzero((counts == 1) & (sealed == 1)))


def _need(heap: Heap, group: int, wants: list[tuple[Sequence, int]]) -> int:
    counts, sealed, size = references(heap, group), sealed_pages(heap, group), heap.page_tokens
    need = 0
    for sequence, length in wants:
        pages = row_pages(heap, group, sequence)
        held = int(heap.tables[group].skipped[sequence.slot]) + len(pages)
        need += max(0, -(-length // size) - held)
        if heap.length[sequence.slot] % size and (counts[pages[-1]] > 1 or sealed[pages[-1]]):
            need += 1
    return need


def longest_known(heap: Heap, namespace: Namespace, tokens: list[int]) -> int:
    """Tokens of the longest common prefix with anything that the tree holds and this namespace may see."""
    best = 0
    for node in heap.tree.nodes():
        path = _path(node)
        if path[0].parent is heap.tree.roots.get(namespace.origin):
            best = max(best, common(_visible(heap, path, namespace), tokens))
    return best


def _visible(heap: Heap, path: list[Node], namespace: Namespace) -> list[int]:
    """The tokens of a path as far as the namespace's public pages, and behind them if that is its own."""
    known: list[int] = []
    public = namespace.public * heap.page_tokens
    for node in path:
        own = node.door.removeprefix(b"\xff" * 4 + len(namespace.salt).to_bytes(4, "big")) == namespace.salt.encode()
        if node.door and (len(known) != public or not own):
            break
        if public and len(known) == public and not node.door:
            break
        known += node.tokens.view().tolist()
        if len(known) > public and public and not any(one.door for one in path[: path.index(node) + 1]):
            return known[:public]
    return known


def _path(node: Node) -> list[Node]:
    path = [node]
    while path[0].parent is not None and path[0].parent.parent is not None:
        path.insert(0, path[0].parent)
    return path


def common(one: list[int], other: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def dump(heap: Heap) -> dict[str, object]:
    """Everything that the heap knows, as plain comparable data; refusals are left out."""
    return {
        "groups": [_dump_group(heap, group) for group in range(len(heap.groups))],
        "objects": [(one.id, one.refs, one.roots, list(one.holds)) for one in heap.graph],
        "candidates": list(heap.graph.candidates),
        "sequences": [_dump_sequence(heap, sequence) for sequence in heap.sequences.values()],
        "nodes": [_dump_node(node) for node in heap.tree.nodes()],
        "roots": [(repr(namespace), root.id, root.users) for namespace, root in heap.tree.roots.items()],
        "held": [(hold.step, hold.held) for hold in heap.held],
        "flights": [(step, [table.first.tolist() for table in reads.tables]) for step, reads in heap.flights.items()],
        "steps": (heap.planning, heap.completed, tuple(heap.moves)),
        "counters": {name: value for name, value in asdict(heap.counters).items() if name != "refusals"},
        "tiers": _dump_tiers(heap),
    }


def _dump_tiers(heap: Heap) -> tuple[object, ...]:
    if heap.tiers is None:
        return ()
    host, disk = heap.tiers.host, heap.tiers.disk
    slots = (list(host.names), list(host.cached.items()), host.held, host.arriving, dict(host.claims), host.let_go)
    known = () if disk is None else (sorted(disk.keys), sorted(disk.writing), disk.reading, asdict(disk.counters))
    return (*slots, *known, asdict(heap.tiers.counters))


def _dump_group(heap: Heap, group: int) -> tuple[object, ...]:
    pages = heap.groups[group]
    return (pages.count.tolist(), pages.sealed.tolist(), pages.cached, pages.space.free, list(pages.space.masks))


def _dump_sequence(heap: Heap, sequence: Sequence) -> tuple[object, ...]:
    slot = sequence.slot
    if slot < 0:
        return (sequence.id, sequence.parked, sequence.tip.id, sequence.sealed, sequence.last_read)
    rows = [(table.row(slot), int(table.skipped[slot])) for table in heap.tables]
    place = (sequence.tip.id, sequence.sealed, sequence.exact, sequence.publishing)
    return (sequence.id, slot, rows, place, int(heap.length[slot]), bool(heap.barrier[slot]), sequence.tokens.size)


def _dump_node(node: Node) -> tuple[object, ...]:
    pages = [column.view().tolist() for column in node.pages]
    parent = None if node.parent is None else node.parent.id
    return (node.id, parent, node.tokens.view().tolist(), pages, node.users, node.used, node.uses, node.generation)
