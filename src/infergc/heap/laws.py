"""The laws, executed: every figure is recomputed from raw tables, masks and objects, never from counters.

``violations`` returns one line for each broken law it finds, beginning with the law's number. Laws 9 and 10
speak of operations, not of states: of law 9 the trace it would leave is checked here (a table of uneven
length), and both are tested by the heap's state machine.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from infergc.heap.groups import pages_for
from infergc.heap.moves import I32, PageTable
from infergc.heap.nodes import Node
from infergc.heap.objects import Pin, Sequence, StepReads
from infergc.heap.pages import Pages, page_numbers
from infergc.heap.space import FreeSpace
from infergc.heap.state import HeapState
from infergc.heap.stats import GroupStats
from infergc.heap.tier_laws import tier_violations

_NONE = np.empty(0, np.int32)


class _Tree:
    """What the prefix tree holds, read once for all laws.

    Attributes:
        nodes: parents first.
        pages: per layer group, the pages of all nodes, one node's after another's.
        at: per layer group, which of ``nodes`` holds each of those pages.
    """

    def __init__(self, heap: HeapState) -> None:
        self.nodes = heap.tree.nodes()
        columns = [[node.pages[group].view() for node in self.nodes] for group in range(len(heap.groups))]
        self.pages = tuple(np.concatenate([_NONE, *held]) for held in columns)
        self.at = tuple(np.repeat(np.arange(len(held)), [len(column) for column in held]) for held in columns)

    def unlike(self, group: int, found: NDArray[np.integer], want: list[int]) -> list[Node]:
        """The nodes with a page of which something else is ``found`` than they ``want``."""
        at = self.at[group]
        return [self.nodes[place] for place in np.unique(at[found != np.array(want, np.int64)[at]])]


def violations(heap: HeapState) -> list[str]:
    """Every law that the heap breaks now. Cost: O(capacity + pages held + tokens sealed)."""
    tree = _Tree(heap)
    used = [_used(heap, group) for group in range(len(heap.groups))]
    held = [
        np.concatenate([those, tree.pages[group], page_numbers(heap.in_flight(group))])
        for group, those in enumerate(used)
    ]
    broken = [line for pages, numbers in zip(heap.groups, held, strict=True) for line in _law_2_numbers(pages, numbers)]
    if broken:
        return broken  # of pages that are nowhere, nothing else can be asked
    for group, (pages, stats) in enumerate(zip(heap.groups, heap.stats(), strict=True)):
        broken += _law_1_conservation(pages, stats, _counted(pages, used[group]) > 0)
        broken += _law_2_counts(pages, _counted(pages, held[group]))
        broken += _law_8_lossy(pages)
    for law in _LAWS:
        broken += law(heap)
    for tree_law in _TREE_LAWS:
        broken += tree_law(heap, tree)
    return [*broken, *tier_violations(heap)]


def _used(heap: HeapState, group: int) -> I32:
    """The pages of sequences, one sequence's after another's."""
    return page_numbers([part for one in heap.sequences.values() for part in heap.extents(one, group)])


def _counted(pages: Pages, held: I32) -> NDArray[np.int64]:
    """References to each page of a group, where these are held."""
    return np.bincount(held, minlength=pages.spec.capacity)


def _law_1_conservation(pages: Pages, stats: GroupStats, live: NDArray[np.bool_]) -> Iterator[str]:
    """``live`` says of each page whether a sequence holds it."""
    name, space = pages.spec.name, pages.space
    free = space.free_pages()
    if any(page >= pages.spec.capacity for page in free):
        yield f"law 1: group {name} has free pages beyond its capacity"
    if len(free) != space.free:
        yield f"law 1: group {name} counts {space.free} pages free, its masks hold {len(free)}"
    if not np.array_equal(np.flatnonzero(pages.count == 0), free):
        yield f"law 1: group {name}: pages nobody counts and pages on the free masks differ"
    cached = int(np.count_nonzero(pages.sealed & (pages.count == 1)))
    if cached != pages.cached:
        yield f"law 1: group {name} counts {pages.cached} pages cached, there are {cached}"
    transit = int(np.count_nonzero((pages.count > 0) & ~live & ~(pages.sealed & (pages.count == 1))))
    if (stats.live, stats.in_transit) != (int(live.sum()), transit):
        yield f"law 1: sequences hold {int(live.sum())} pages, only work in flight {transit}, but it reports {stats}"
    yield from _superblocks(name, space)


def _superblocks(name: str, space: FreeSpace) -> Iterator[str]:
    whole = sum(mask.bit_count() for mask, brim in zip(space.masks, space.brims, strict=True) if mask == brim)
    if whole != space.whole:
        yield f"law 1: group {name} counts {space.whole} pages free in whole superblocks, its masks hold {whole}"
    for block, mask in enumerate(space.masks):
        if space.filed[block] > space.longest_class(mask):
            yield f"law 1: group {name}: superblock {block} is filed under a size class too small"


def _law_2_numbers(pages: Pages, held: I32) -> Iterator[str]:
    nowhere = held[(held < 0) | (held >= pages.spec.capacity)]
    if len(nowhere):
        last = pages.spec.capacity - 1
        yield f"law 2: group {pages.spec.name}: page {nowhere[0]} is held, and it has pages 0 to {last}"


def _law_2_counts(pages: Pages, held: NDArray[np.int64]) -> Iterator[str]:
    wrong = np.flatnonzero(pages.count != held)
    if len(wrong):
        page = int(wrong[0])
        yield (
            f"law 2: group {pages.spec.name}: page {page} counts {pages.count[page]} references, "
            f"objects hold {held[page]} ({len(wrong)} pages differ)"
        )


def _law_2_objects(heap: HeapState) -> Iterator[str]:
    """Counts of heap objects are true, and the sequences that hold pages are those of the graph."""
    held = Counter(number for one in heap.graph for number in one.holds)
    for one in heap.graph:
        if one.refs != held.pop(one.id, 0) + one.roots:
            yield f"law 2: object {one.id} of {one.owner} counts {one.refs} references, others hold it less or more"
        if (one.roots > 0) != (one.id in heap.graph.rooted):
            yield f"law 2: object {one.id} of {one.owner} has {one.roots} roots, and the graph says otherwise"
    if held:
        yield f"law 2: freed objects are held: {sorted(held)}"
    sequences = {one.id for one in heap.graph if isinstance(one, Sequence)}
    if sequences != heap.sequences.keys():
        yield "law 2: the sequences that hold pages differ from those in the object graph"


def _law_3_writes(heap: HeapState) -> Iterator[str]:
    for step, reads in heap.flights.items():
        for group, table in enumerate(reads.tables):
            pages = heap.groups[group]
            for row in range(len(reads.sequences)):
                low, high = int(reads.starts[row]), int(reads.starts[row] + reads.counts[row])
                written = _logical(table, row, low // heap.page_tokens, pages_for(high, heap.page_tokens))
                if (pages.count[written] != 1).any():
                    yield f"law 3: step {step} writes to a shared page of {_owner(heap, reads, row)}"
                if pages.sealed[written].any():
                    yield f"law 3: step {step} writes to a sealed page of {_owner(heap, reads, row)}"


def _law_4_and_5_reads(heap: HeapState) -> Iterator[str]:
    for step, reads in heap.flights.items():
        for group, table in enumerate(reads.tables):
            parked = {
                page
                for hold in heap.held
                if hold.step >= step
                for at, extent in hold.extents()
                if at == group
                for page in page_numbers([extent]).tolist()
            }
            for row, number in enumerate(reads.sequences.tolist()):
                read = _row_pages(table, row)
                if (heap.groups[group].count[read] == 0).any():
                    yield f"law 4: step {step} reads a page of {_owner(heap, reads, row)} that is free"
                sequence = heap.sequences.get(number)
                owned = set(page_numbers(heap.extents(sequence, group)).tolist()) if sequence else set()
                if not set(read.tolist()) <= owned | parked:
                    yield f"law 5: step {step} is in flight, but nothing keeps a page of {_owner(heap, reads, row)}"


def _law_6_closed_tree(heap: HeapState, tree: _Tree) -> Iterator[str]:
    size = heap.page_tokens
    for node in tree.nodes:
        if node.parent is None or node.parent.children.get(heap.tree.key(node)) is not node:
            yield f"law 6: node {node.id} does not hang where its first page says"
        if any(column.size * size != node.tokens.size for column in node.pages) or not node.length:
            yield f"law 6: node {node.id} lacks pages of a group"
        if node.idle and node not in heap.tree.order:
            yield f"law 6: node {node.id} is an idle leaf that reclaim does not know"
    if len(heap.tree.index) != len(tree.nodes):
        yield f"law 6: {len(heap.tree.index)} nodes are indexed, the prefix tree has {len(tree.nodes)}"


def _law_6_tree_pages(heap: HeapState, tree: _Tree) -> Iterator[str]:
    ids, generations = [node.id for node in tree.nodes], [node.generation for node in tree.nodes]
    for group, (pages, held) in enumerate(zip(heap.groups, tree.pages, strict=True)):
        for node in tree.unlike(group, heap.tree.index.ids(group, held), ids):
            yield f"law 6: pages of node {node.id} are indexed under another"
        for node in tree.unlike(group, pages.generation[held], generations):
            yield f"law 6: pages of node {node.id} are of another generation than it is"
        if not np.array_equal(np.sort(held), np.flatnonzero(pages.sealed)):
            yield f"law 6: group {pages.spec.name}: sealed pages and pages of the prefix tree differ"


def _law_6_users(heap: HeapState, tree: _Tree) -> Iterator[str]:
    users = Counter(sequence.tip.id for sequence in heap.sequences.values())
    roots = list(heap.tree.roots.values())
    for node in (*roots, *tree.nodes):
        stand = users.pop(node.id, 0)
        if node.users != stand:
            yield f"law 6: node {node.id} counts {node.users} users, {stand} stand there"
        if node.keys != sorted(node.children):
            yield f"law 6: node {node.id} has keys that differ from its children"
    if users:
        yield "law 6: a sequence stands on a node that was reclaimed"
    if not all(root.users or root.children for root in roots):
        yield "law 6: a namespace that nothing uses was not forgotten"


def _law_6_pins(heap: HeapState, tree: _Tree) -> Iterator[str]:
    """A pin holds its whole path, in every group; nodes count the pins through them, and the heap what they hold."""
    through: Counter[int] = Counter()
    for pin in (one for one in heap.sequences.values() if isinstance(one, Pin)):
        path = heap.tree.path(pin.tip)
        through.update(node.id for node in path)
        held = [sum(length for _, length in extents) for extents in pin.parked]
        if held != [sum(node.length for node in path)] * len(heap.groups):
            yield f"law 6: the pin of {pin.owner} does not hold all pages of its prefix"
    if any(node.pins != through[node.id] for node in tree.nodes):
        yield "law 6: nodes count other pins than hold their pages"
    pinned = sum(node.length for node in tree.nodes if through[node.id])
    if not pinned == heap.pinned <= heap.pin_budget:
        yield f"law 6: pins hold {pinned} pages, {heap.pinned} are counted, {heap.pin_budget} are allowed"
    for node in tree.nodes:
        if node.hint is not None and node.hint.ttl and not node.hint.passed and not heap.tree.hints.watches(node):
            yield f"law 6: nobody sees when the time of node {node.id} is over"


def _law_7_exact(heap: HeapState) -> Iterator[str]:
    for sequence in heap.sequences.values():
        chain = heap.tree.path(sequence.tip)
        tokens = np.concatenate([_NONE, *(node.tokens.view() for node in chain)])
        if len(tokens) != sequence.sealed * heap.page_tokens:
            yield f"law 7: {sequence.owner} seals {sequence.sealed} pages, its path holds {len(tokens)} tokens"
        elif not np.array_equal(tokens, sequence.tokens.view()[: len(tokens)]):
            yield f"law 7: {sequence.owner} shares pages of other tokens than its own"
        elif heap.tree.roots.get(sequence.namespace.origin) is not _root(sequence.tip):
            yield f"law 7: {sequence.owner} stands in another namespace"
        else:
            yield from _same_pages(heap, sequence, chain)


def _law_7_doors(heap: HeapState, tree: _Tree) -> Iterator[str]:
    """Public pages are nobody's, and what hangs below them is one tenant's: behind its door, and no other."""
    public = [root for namespace, root in heap.tree.roots.items() if namespace.public]
    for node in tree.nodes:
        if node.door and (_root(node) not in public or any(one.door for one in heap.tree.path(node)[:-1])):
            yield f"law 7: node {node.id} stands behind a door where none can be"
    for sequence in heap.sequences.values():
        at, namespace = 0, sequence.namespace
        for node in heap.tree.path(sequence.tip):
            if node.door != namespace.door(at) or at < namespace.public < at + node.length:
                yield f"law 7: {sequence.owner} stands behind another tenant's door, or none"
            at += node.length


def _same_pages(heap: HeapState, sequence: Sequence, chain: list[Node]) -> Iterator[str]:
    for group, table in enumerate(heap.tables):
        path = np.concatenate([_NONE, *(node.pages[group].view() for node in chain)])
        row = page_numbers(heap.extents(sequence, group))
        skipped = len(path) - len(row) if sequence.slot < 0 else int(table.skipped[sequence.slot])
        if not np.array_equal(row[: max(0, len(path) - skipped)], path[skipped:]):
            yield f"law 7: {sequence.owner} holds other pages than the prefix tree has for its tokens"


def _law_8_lossy(pages: Pages) -> Iterator[str]:
    if (pages.sealed & pages.lossy).any():
        yield f"law 8: group {pages.spec.name} has published pages that are not exact"


def _law_9_whole(heap: HeapState) -> Iterator[str]:
    for sequence in heap.sequences.values():
        if sequence.slot < 0:
            continue
        want = pages_for(int(heap.length[sequence.slot]), heap.page_tokens)
        for pages, table in zip(heap.groups, heap.tables, strict=True):
            if int(table.skipped[sequence.slot] + table.held[sequence.slot]) != want:
                yield f"law 9: {sequence.owner} was granted {want} pages, but not in group {pages.spec.name}"


def _owner(heap: HeapState, reads: StepReads, row: int) -> str:
    """Whose row of a step it is, for people."""
    number = int(reads.sequences[row])
    return heap.sequences[number].owner if number in heap.sequences else f"sequence {number}, closed since"


def _root(node: Node) -> Node:
    while node.parent is not None:
        node = node.parent
    return node


def _row_pages(table: PageTable, row: int) -> I32:
    return page_numbers(list(zip(table.first[row].tolist(), table.pages[row].tolist(), strict=True)))


def _logical(table: PageTable, row: int, low: int, high: int) -> I32:
    skipped = int(table.skipped[row])
    return _row_pages(table, row)[low - skipped : high - skipped]


_LAWS = (_law_2_objects, _law_3_writes, _law_4_and_5_reads, _law_7_exact, _law_9_whole)
_TREE_LAWS = (_law_6_closed_tree, _law_6_tree_pages, _law_6_users, _law_6_pins, _law_7_doors)
