"""Planted bugs: one operation of the heap done wrong, and the law that must name it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from infergc.heap import evacuation as evacuation_module
from infergc.heap import heap as heap_module
from infergc.heap.heap import Heap
from infergc.heap.holders import Holders
from infergc.heap.moves import Move
from infergc.heap.nodes import Namespace, Node
from infergc.heap.objects import Sequence
from infergc.heap.page_index import PageIndex
from infergc.heap.pages import Pages
from infergc.heap.reclaim import Reclaimer
from infergc.heap.retention import ReclaimOrder
from infergc.heap.space import Extent, FreeSpace
from infergc.heap.tables import BlockTables
from infergc.heap.tree import PrefixTree

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """A bug to plant, the law it breaks, and the shape of heap where it shows."""

    law: int
    name: str
    plant: Callable[[Patch], None]
    shape: str = "full-sliding-8"


MUTANTS: list[Mutant] = []


def mutant(law: int, shape: str = "full-sliding-8") -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS.append(Mutant(law, plant.__name__, plant, shape))
        return plant

    return register


def around(patch: Patch, owner: Any, name: str, mutated: Callable[..., Any]) -> None:
    """Replace a function by ``mutated(original, *arguments)``."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **named: mutated(original, *args, **named))


# ---- law 1: conservation


@mutant(1)
def free_forgets_the_last_page_of_a_run(patch: Patch) -> None:
    def give(original: Any, space: FreeSpace, first: int, pages: int) -> None:
        original(space, first, pages if pages < 2 else pages - 1)

    around(patch, FreeSpace, "give", give)


@mutant(1)
def a_hit_forgets_that_pages_were_cached(patch: Patch) -> None:
    def retain(original: Any, pages: Pages, extents: list[Extent], by: int) -> None:
        cached = pages.cached
        original(pages, extents, by)
        pages.cached = cached

    around(patch, Pages, "retain", retain)


@mutant(1)
def a_superblock_stays_in_the_class_it_had(patch: Patch) -> None:
    patch.setattr(FreeSpace, "_put", lambda space, block, mask: space.masks.__setitem__(block, mask))


# ---- law 2: counts


@mutant(2)
def sharing_counts_only_the_first_extent(patch: Patch) -> None:
    around(patch, Pages, "retain", lambda original, pages, extents, by: original(pages, extents[:1], by))


@mutant(2)
def closing_forgets_the_last_group(patch: Patch) -> None:
    def close(original: Any, heap: Heap, sequence: Sequence) -> None:
        heap.tables[-1].clear(sequence.slot)
        original(heap, sequence)

    around(patch, Heap, "close", close)


@mutant(2, "blocks-64")
def compaction_forgets_the_prefix_tree(patch: Patch) -> None:
    def rewritten(original: Any, heap: Heap, group: int, holders: Holders, to: Any) -> None:
        original(heap, group, replace(holders, nodes=[]), to)

    around(patch, evacuation_module, "rewrite", rewritten)


@mutant(2, "blocks-64")
def compaction_forgets_branches(patch: Patch) -> None:
    def rewritten(original: Any, heap: Heap, group: int, holders: Holders, to: Any) -> None:
        original(heap, group, replace(holders, slots=holders.slots[:1]), to)

    around(patch, evacuation_module, "rewrite", rewritten)


@mutant(2)
def a_copy_lets_go_of_its_source_without_counting(patch: Patch) -> None:
    def hold(original: Any, heap: Heap, step: int, group: int, extents: list[Extent]) -> None:
        if step != heap.planning:
            original(heap, step, group, extents)

    around(patch, Heap, "hold", hold)


# ---- law 3: write barrier


@mutant(3)
def the_write_barrier_is_off(patch: Patch) -> None:
    patch.setattr(Heap, "_shared_tails", lambda heap, _: [-1] * len(heap.groups))


@mutant(3)
def the_write_barrier_forgets_forks(patch: Patch) -> None:
    def fork(original: Any, heap: Heap, sequence: Sequence, owner: str) -> Sequence | None:
        branch: Sequence | None = original(heap, sequence, owner)
        heap.barrier[sequence.slot] = False
        return branch

    around(patch, Heap, "fork", fork)


@mutant(3)
def a_copy_forgets_the_count(patch: Patch) -> None:
    patch.setattr(heap_module, "Move", lambda *args: replace(Move(*args), tokens=0))


@mutant(3)
def a_copy_goes_the_wrong_way(patch: Patch) -> None:
    def move(kind: Any, group: int, src: int, dst: int, tokens: int) -> Move:
        return Move(kind, group, dst, src, tokens)

    patch.setattr(heap_module, "Move", move)


# ---- law 4: read barrier


@mutant(4)
def slide_releases_one_page_too_many(patch: Patch) -> None:
    around(patch, Heap, "_hidden_pages", lambda original, *args: original(*args) + 1)


@mutant(4)
def a_step_loses_its_pages_when_it_begins(patch: Patch) -> None:
    def begin_step(original: Any, heap: Heap, *rows: Any) -> Any:
        tables = original(heap, *rows)
        heap.groups[0].release([(int(tables[0].first[0, 0]), 1)])
        return tables

    around(patch, Heap, "begin_step", begin_step)


# ---- law 5: epochs


@mutant(5)
def pages_are_freed_under_steps_in_flight(patch: Patch) -> None:
    def drop(original: Any, heap: Heap, sequence: Sequence, group: int, extents: list[Extent]) -> None:
        heap.groups[group].release(extents)

    around(patch, Heap, "_drop", drop)


@mutant(5, "one-16")
def the_first_step_done_frees_for_all(patch: Patch) -> None:
    def complete(original: Any, heap: Heap, step: int) -> None:
        for hold in heap.held:
            hold.step = min(hold.step, step)
        original(heap, step)

    around(patch, Heap, "complete", complete)


@mutant(5, "blocks-64")
def pages_that_moved_are_free_before_they_are_copied(patch: Patch) -> None:
    def hold(original: Any, heap: Heap, step: int, group: int, extents: list[Extent]) -> None:
        if step == heap.planning and heap.moves and heap.moves[-1].tokens == heap.page_tokens:
            heap.groups[group].release(extents)
        else:
            original(heap, step, group, extents)

    around(patch, Heap, "hold", hold)


# ---- law 6: closed prefix tree


@mutant(6)
def reclaim_takes_a_leaf_that_a_sequence_stands_on(patch: Patch) -> None:
    patch.setattr(Node, "idle", property(lambda node: not node.children and node.parent is not None))


@mutant(6)
def reclaim_takes_an_interior_node(patch: Patch) -> None:
    patch.setattr(Node, "idle", property(lambda node: not node.users and node.parent is not None))


@mutant(6)
def reclaim_leaves_the_tokens_of_the_pages_it_takes(patch: Patch) -> None:
    def trim(original: Any, tree: PrefixTree, leaf: Node, pages: int) -> Any:
        if pages == leaf.length:
            return original(tree, leaf, pages)
        tree.order.offer(leaf)
        return tuple(column.drop(pages) for column in leaf.pages)

    around(patch, PrefixTree, "trim", trim)


@mutant(6)
def a_shrunken_leaf_is_forgotten(patch: Patch) -> None:
    def trim(original: Any, tree: PrefixTree, leaf: Node, pages: int) -> Any:
        removed = original(tree, leaf, pages)
        tree.order._queued.pop(leaf.id, None)
        return removed

    around(patch, PrefixTree, "trim", trim)


@mutant(6)
def a_split_edge_loses_its_siblings_keys(patch: Patch) -> None:
    around(patch, Node, "add_child", lambda _, node, key, child: node.children.__setitem__(key, child))


@mutant(6)
def an_idle_leaf_is_never_offered(patch: Patch) -> None:
    patch.setattr(ReclaimOrder, "offer", lambda *_: None)


@mutant(6, "blocks-64")
def a_page_that_moved_is_indexed_where_it_was(patch: Patch) -> None:
    patch.setattr(PageIndex, "moved", lambda *_: None)


@mutant(6, "blocks-64")
def a_split_edge_is_indexed_whole(patch: Patch) -> None:
    def settle(original: Any, tree: PrefixTree, node: Node, into: int, step: int) -> Node:
        upper: Node = original(tree, node, into, step)
        tree.index.enter(node, tuple(column.view() for column in upper.pages))
        return upper

    around(patch, PrefixTree, "settle", settle)


# ---- law 7: a hit is exact


@mutant(7)
def a_match_compares_first_tokens_of_pages_only(patch: Patch) -> None:
    def common_pages(_: Any, tree: PrefixTree, namespace: Any, node: Node, tokens: Any, page: int, limit: int) -> int:
        size, low = tree.page_tokens, page * tree.page_tokens
        most = min(limit - low, node.tokens.size) // size
        differ = np.flatnonzero(node.tokens.view()[: most * size : size] != tokens[low : low + most * size : size])
        return max(1, int(differ[0]) if len(differ) else most)

    around(patch, PrefixTree, "common_pages", common_pages)


@mutant(7)
def tenants_share_a_root(patch: Patch) -> None:
    around(patch, PrefixTree, "root", lambda original, tree, namespace: original(tree, Namespace(namespace.model)))


@mutant(7)
def a_match_of_part_of_a_page_takes_one_token_too_many(patch: Patch) -> None:
    def share_prefix(original: Any, heap: Heap, sequence: Sequence, limit: int) -> int:
        total: int = original(heap, sequence, limit)
        if total % heap.page_tokens:
            heap.length[sequence.slot] = total = total + 1
        return total

    around(patch, Heap, "share_prefix", share_prefix)


@mutant(7)
def publication_swaps_in_pages_shifted_by_one(patch: Patch) -> None:
    def replace_pages(original: Any, table: BlockTables, slot: int, low: int, pages: Any) -> Any:
        return original(table, slot, low, np.roll(pages, 1))

    around(patch, BlockTables, "replace", replace_pages)


@mutant(7, "blocks-64")
def compaction_copies_half_a_page(patch: Patch) -> None:
    def move(kind: Any, group: int, src: int, dst: int, tokens: int) -> Move:
        return Move(kind, group, src, dst, tokens // 2)

    patch.setattr(evacuation_module, "Move", move)


@mutant(7, "blocks-64")
def pages_change_places_on_the_way(patch: Patch) -> None:
    def rewritten(original: Any, heap: Heap, group: int, holders: Holders, to: Any) -> None:
        to[to >= 0] = np.roll(to[to >= 0], 1)
        original(heap, group, holders, to)

    around(patch, evacuation_module, "rewrite", rewritten)


# ---- law 8: lossy stays private


@mutant(8)
def a_tainted_sequence_goes_on_publishing(patch: Patch) -> None:
    def taint(original: Any, heap: Heap, sequence: Sequence) -> None:
        original(heap, sequence)
        sequence.exact = True

    around(patch, Heap, "taint", taint)


@mutant(8)
def a_branch_of_a_tainted_sequence_is_taken_for_exact(patch: Patch) -> None:
    def fork(original: Any, heap: Heap, sequence: Sequence, owner: str) -> Sequence | None:
        branch: Sequence | None = original(heap, sequence, owner)
        if branch is not None:
            branch.exact = True
        return branch

    around(patch, Heap, "fork", fork)


# ---- law 9: all or nothing


@mutant(9)
def a_reservation_stops_half_way(patch: Patch) -> None:
    def extend(original: Any, heap: Heap, *args: Any) -> None:
        tables, heap.tables = heap.tables, heap.tables[:1]
        original(heap, *args)
        heap.tables = tables

    around(patch, Heap, "_extend", extend)


@mutant(9)
def a_refused_reservation_keeps_what_it_reclaimed(patch: Patch) -> None:
    def make_room(original: Any, reclaimer: Reclaimer, needs: list[int], step: int) -> bool:
        granted: bool = original(reclaimer, needs, step)
        return granted or (bool(reclaimer._reclaim(1, step, "room") and False))

    around(patch, Reclaimer, "make_room", make_room)


@mutant(9)
def fragments_refuse(patch: Patch) -> None:
    def make_room(original: Any, reclaimer: Reclaimer, needs: list[int], step: int) -> bool:
        fits = all(pages.space.fits(max(1, need), -1, 0) for need, pages in zip(needs, reclaimer._groups, strict=True))
        return fits and original(reclaimer, needs, step)

    around(patch, Reclaimer, "make_room", make_room)


@mutant(9)
def cached_pages_count_as_taken(patch: Patch) -> None:
    patch.setattr(Pages, "grantable", property(lambda pages: pages.space.free))


@mutant(9)
def reclaim_gives_up_behind_a_live_leaf(patch: Patch) -> None:
    def make_room(original: Any, reclaimer: Reclaimer, needs: list[int], step: int) -> bool:
        try:
            return bool(original(reclaimer, needs, step))
        except StopIteration:
            return False

    def expose(original: Any, reclaimer: Reclaimer, step: int) -> None:
        raise StopIteration

    around(patch, Reclaimer, "make_room", make_room)
    around(patch, Reclaimer, "_expose", expose)
