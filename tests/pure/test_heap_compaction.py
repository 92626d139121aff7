"""Compaction: which superblocks are emptied, where to, for how much work, and what is left alone."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infergc.heap import evacuation
from infergc.heap.compactor import Compaction
from infergc.heap.errors import HeapCorruption
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.holders import HolderScan
from infergc.heap.nodes import Namespace
from infergc.heap.objects import Sequence, TokenLog
from infergc.heap.pages import Pages
from infergc.heap.ranking import Ranking
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.lru import Lru

P, W = 64, 16  # tokens in a page, pages in a superblock
ALWAYS = Compaction(sparse=1.0, fragmentation=0.0, spare=0.0, rest=0, handling=1)
_NONE = np.empty(0, np.int32)


def heap_of(superblocks: float, knobs: Compaction = ALWAYS, groups: int = 1) -> Heap:
    specs = tuple(GroupSpec(f"g{at}", 1, None, int(superblocks * W)) for at in range(groups))
    return Heap(HeapConfig(specs, P, 256), Lru(), knobs)


def hold(heap: Heap, pages: int, salt: str = "", token: int = 0) -> Sequence:
    sequence = heap.open(f"s{salt}", TokenLog(np.full(pages * P, token, np.int32)), Namespace("m", salt))
    assert sequence is not None
    assert heap.reserve([(sequence, pages * P)])
    return sequence


def holes(heap: Heap, kept: list[Iterable[int]]) -> dict[int, Sequence]:
    """Fill the heap page by page, and keep these pages of each superblock, each by a sequence of its own."""
    every = [hold(heap, 1) for _ in range(heap.groups[0].space.free)]
    wanted = {block * W + page for block, pages in enumerate(kept) for page in pages}
    for sequence in every:
        if heap.tables[0].last_page(sequence.slot) not in wanted:
            heap.close(sequence)
    return {heap.tables[0].last_page(each.slot): each for each in heap.sequences.values()}


def compact(heap: Heap, budget: int = 1 << 20) -> int:
    assert heap.compactor is not None
    spent = heap.compactor.compact(budget)
    heap.check()
    return spent


def finish_step(heap: Heap) -> None:
    heap.begin_step(_NONE.astype(np.intp), _NONE, _NONE)
    heap.take_moves()
    heap.complete(heap.planning - 1)
    heap.check()


def used(heap: Heap, group: int = 0) -> list[int]:
    """Pages in use of each superblock."""
    space = heap.groups[group].space
    return [(brim & ~mask).bit_count() for brim, mask in zip(space.brims, space.masks, strict=True)]


@pytest.mark.parametrize("told", [True, False])
def test_a_parked_turn_is_told_where_its_pages_went(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    heap = heap_of(4)
    (turn, *_) = holes(heap, [range(1), range(14), (), ()]).values()
    step = heap.planning
    heap.begin_step(np.array([turn.slot], np.intp), np.array([0], np.int32), np.array([P], np.int32))
    heap.complete(step)
    heap.publish(turn, P)
    heap.join(heap.session("chat"), turn)
    heap.close(turn)
    if told:
        compact(heap)
        assert turn.parked == ([(W + 14, 1)],)
        finish_step(heap)
    else:
        original = evacuation.rewrite
        monkeypatch.setattr(evacuation, "rewrite", lambda *a: original(*a[:2], replace(a[2], parked=[]), a[3]))
        with pytest.raises(HeapCorruption, match="law 2"):
            compact(heap)


def test_a_sparse_superblock_is_emptied_into_the_fullest() -> None:
    heap = heap_of(4)
    holes(heap, [range(2), range(14), range(8), ()])
    assert heap.stats()[0].fragmentation == pytest.approx(1 - W / (4 * W - 24))
    compact(heap, budget=2 + 2 + 1 + 1 + 1)  # pages, extents, a look at either superblock, the ranking
    assert used(heap) == [2, 16, 8, 0], "what moved stays in transit until the copies are made"
    assert [(move.src, move.dst, move.tokens) for move in heap.moves] == [(0, W + 14, P), (1, W + 15, P)]
    assert heap.stats()[0].in_transit == 2
    finish_step(heap)
    assert used(heap) == [0, 16, 8, 0]
    assert heap.stats()[0].fragmentation == pytest.approx(8 / 40)
    assert (heap.counters.compactions, heap.counters.moved) == (1, 2)


def test_a_superblock_is_emptied_whole_or_not_at_all() -> None:
    heap = heap_of(3)
    holes(heap, [range(5), range(10), ()])
    assert compact(heap, budget=10) <= 10
    assert not heap.moves
    assert compact(heap, budget=11) == 2, "the ranking and a look at who has room: what is left is not enough"
    assert not heap.moves
    assert compact(heap, budget=11) == 11, "5 pages, 5 extents, one look"
    assert len(heap.moves) == 5


def test_without_room_in_others_nothing_moves() -> None:
    heap = heap_of(3)
    holes(heap, [range(5), range(12), ()])
    assert compact(heap) == 2, "the ranking, and a look at who has room"
    assert not heap.moves, "the third superblock is wholly free: to move there gains nothing"


@pytest.mark.parametrize(("lengths", "extents"), [([3], 1), ([1, 3], 1), ([2, 2], 2)])
def test_the_smallest_gap_that_holds_a_run_is_taken(lengths: list[int], extents: int) -> None:
    heap = heap_of(3)
    gaps = {1: 0, 3: 4, 2: 8}  # pages → where, in the second superblock
    free = {at for length in lengths for at in range(gaps[length], gaps[length] + length)}
    free |= {12, 13} if lengths == [2, 2] else set()
    holes(heap, [range(16), [page for page in range(W) if page not in free], ()])
    lone = heap.open("lone", TokenLog(np.zeros(3 * P, np.int32)), Namespace("m"))
    assert lone is not None
    run = [(2 * W + 5, 3)]
    heap.groups[0].space.take_run(*run[0])
    heap.groups[0].count[2 * W + 5 : 2 * W + 8] = 1
    heap.tables[0].append(lone.slot, run)
    heap.length[lone.slot] = 3 * P
    compact(heap)
    finish_step(heap)
    assert used(heap)[2] == 0
    assert heap.tables[0].extents[lone.slot] == extents


def test_all_that_is_known_of_a_page_goes_with_it() -> None:
    pages = Pages(GroupSpec("g", 1, None, 8), P)
    pages.allocate(3, -1, 0, lossy=True)
    pages.seal([(1, 2)])
    pages.lossy[1:3] = False
    pages.retain([(2, 1)])
    pages.space.take_run(4, 3)
    pages.born[:3] = 7, 8, 9
    pages.lossy[5] = True  # of whoever had the page before
    for source, target in zip(range(3), (6, 5, 4), strict=True):
        pages.move(source, target, 1)
    assert pages.count.tolist() == [1, 1, 1, 0, 3, 2, 1, 0]
    assert np.flatnonzero(pages.sealed).tolist() == [4, 5]
    assert [bool(pages.lossy[page]) for page in (4, 5, 6)] == [False, False, True]
    assert pages.born[4:7].tolist() == [9, 8, 7]


def test_cached_pages_move_and_are_found() -> None:
    heap = heap_of(4)
    cached = hold(heap, 1, "c", token=3)
    heap.publish(cached, P)
    page = heap.tables[0].last_page(cached.slot)
    holes(heap, [range(1, 3), range(13), (), ()])
    heap.close(cached)
    compact(heap)
    assert page in {move.src for move in heap.moves}
    assert heap.stats()[0].cached == 1
    finish_step(heap)
    assert used(heap).count(0) == 3
    again = heap.open("again", TokenLog(np.full(P + 1, 3, np.int32)), Namespace("m", "c"))
    assert again is not None
    assert heap.share_prefix(again, P) == P
    heap.check()


def test_a_page_that_work_in_flight_holds_stays_and_so_does_its_superblock() -> None:
    heap = heap_of(3)
    held = holes(heap, [range(2), range(10), ()])
    reader = held[0]
    heap.begin_step(np.array([reader.slot]), np.array([0], np.int32), np.array([P], np.int32))
    heap.close(reader)
    compact(heap)
    assert not heap.moves
    heap.complete(0)
    compact(heap)
    assert len(heap.moves) == 1


def test_what_a_step_in_flight_reads_stays_until_the_copies_are_made() -> None:
    heap = heap_of(3)
    held = holes(heap, [range(2), range(10), ()])
    rows = np.array([held[0].slot]), np.array([0], np.int32), np.array([P], np.int32)
    heap.begin_step(*rows)
    compact(heap)
    assert len(heap.moves) == 2
    heap.begin_step(*rows)
    heap.take_moves()
    heap.complete(0)
    assert used(heap)[0] == 2
    heap.check()
    heap.complete(1)
    assert used(heap)[0] == 0
    heap.check()


def test_a_reference_that_nobody_can_rewrite_keeps_a_superblock_in_place() -> None:
    heap = heap_of(3)
    holes(heap, [range(2), range(10), ()])
    heap.groups[0].retain([(1, 1)])  # a leak
    assert heap.compactor is not None
    heap.compactor.compact(1 << 20)
    assert not heap.moves
    heap.groups[0].release([(1, 1)])
    compact(heap)
    assert len(heap.moves) == 2


def test_it_waits_until_it_is_worth_it_and_rests_when_nothing_was_found() -> None:
    heap = heap_of(8, Compaction(sparse=0.25, fragmentation=0.5, spare=2.0, rest=3))
    assert heap.compactor is not None
    kept = holes(heap, [range(3), range(9), range(9), *[range(W)] * 4, range(14)])
    compact(heap)
    assert not heap.moves, "there are 27 + 2 free pages in superblocks partly in use, less than two superblocks"
    heap.compactor.knobs = Compaction(sparse=0.1, fragmentation=0.5, spare=1.0, rest=3)
    compact(heap)
    assert not heap.moves, "none is that sparse"
    heap.compactor.knobs = Compaction(sparse=0.25, fragmentation=0.5, spare=1.0, rest=3)
    for _ in range(3):
        compact(heap)
        assert not heap.moves, "it rests"
        finish_step(heap)
    compact(heap)
    assert len(heap.moves) == 3
    assert len(kept) == 3 + 9 + 9 + 4 * W + 14


def test_the_budget_is_one_for_all_groups_and_each_goes_first_in_its_turn() -> None:
    heap = heap_of(4, groups=2)
    holes(heap, [range(2), range(3), range(10), ()])
    groups = set()
    for _ in range(2):
        assert compact(heap, budget=7) == 7
        groups |= {move.group for move in heap.moves}
        finish_step(heap)
    assert groups == {0, 1}
    assert heap.counters.compactions == 2


def test_moves_that_were_planned_before_come_first() -> None:
    heap = heap_of(3)
    held = holes(heap, [range(1), range(10), ()])
    long = hold(heap, 1)
    heap.truncate(long, P // 2)
    branch = heap.fork(long, "branch")
    assert branch is not None
    assert heap.reserve([(branch, P)])
    (copy,) = heap.moves
    compact(heap)
    assert heap.moves[0] is copy
    assert all(move.dst != copy.src for move in heap.moves)
    finish_step(heap)
    assert len(held) == 11


def test_the_short_superblock_at_the_end_counts_as_whole_when_nothing_of_it_is_held() -> None:
    heap = heap_of(2.5)
    assert heap.stats()[0].fragmentation == 0
    held = holes(heap, [range(W), range(12), [3]])
    assert heap.stats()[0].fragmentation == 1
    compact(heap)
    finish_step(heap)
    assert used(heap) == [16, 13, 0]
    assert heap.stats()[0].fragmentation == pytest.approx(3 / 11)
    for sequence in held.values():
        heap.close(sequence)
    assert heap.stats()[0].fragmentation == 0


def test_fragmentation_of_a_full_heap_is_none() -> None:
    heap = heap_of(2)
    hold(heap, 2 * W)
    assert heap.stats()[0].fragmentation == 0


def test_superblocks_are_ranked_in_pieces_and_nothing_moves_before_that_is_done() -> None:
    heap = heap_of(100)
    for block, sequence in enumerate([hold(heap, W) for _ in range(100)]):
        heap.truncate(sequence, (10 if block % 2 else 1) * P)
    ranking = Ranking(heap.groups[0].space)
    assert [ranking.file(3) for _ in range(3)] == [3, 3, 1], "16 superblocks a unit"
    assert ranking.sparsest_first() == [*range(0, 100, 2), *range(1, 100, 2)]
    assert [compact(heap, budget=6), len(heap.moves)] == [6, 0]
    while not heap.moves:
        assert 0 < compact(heap, budget=6) <= 6
    assert heap.moves[0].src == 0


def test_gaps_that_others_took_or_left_meanwhile_are_offered_no_longer() -> None:
    heap = heap_of(6)
    held = holes(heap, [[0], [0], [0], range(15), range(14), range(13)])
    compact(heap, budget=3 + 1 + 3)
    assert [move.dst for move in heap.moves] == [3 * W + 15]
    finish_step(heap)
    taker = heap.open("taker", TokenLog(np.zeros(2 * P, np.int32)), Namespace("m"))
    assert taker is not None
    heap.groups[0].space.take_run(4 * W + 14, 2)
    heap.groups[0].count[4 * W + 14 : 4 * W + 16] = 1
    heap.tables[0].append(taker.slot, [(4 * W + 14, 2)])
    heap.length[taker.slot] = 2 * P
    for page in range(13):
        heap.close(held[5 * W + page])  # now nothing of it is held
    for _ in range(8):
        compact(heap)
        finish_step(heap)
    assert used(heap) == [0, 0, 2, W, W, 0]


KEPT = st.lists(st.sets(st.integers(0, W - 1)), min_size=2, max_size=7)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(kept=KEPT, budget=st.integers(1, 120), sparse=st.sampled_from([0.25, 0.5, 1.0]))
def test_every_superblock_emptied_is_gained_and_the_budget_is_kept(
    kept: list[set[int]], budget: int, sparse: float
) -> None:
    heap = heap_of(len(kept), replace(ALWAYS, sparse=sparse))
    owners = holes(heap, [sorted(pages) for pages in kept])
    before, ratio = used(heap), heap.stats()[0].fragmentation
    spent = compact(heap, budget)
    moves = list(heap.moves)
    emptied = {move.src // W for move in moves}
    assert len(moves) <= spent <= budget
    assert all(before[block] <= sparse * W for block in emptied)
    assert sum(before[block] for block in emptied) == len(moves), "emptied whole"
    assert all(before[move.dst // W] > 0 and move.dst // W not in emptied for move in moves)
    left = [before[block] for block in range(len(kept)) if before[block] and block not in emptied]
    assert not emptied or not left or max(before[block] for block in emptied) <= min(left), "sparsest first"
    assert {page: owner for page, owner in owners.items() if page // W not in emptied} == {
        page: owner
        for page, owner in ((heap.tables[0].last_page(each.slot), each) for each in owners.values())
        if page in owners
    }, "nobody else moved"
    finish_step(heap)
    assert sum(map(bool, used(heap))) == sum(map(bool, before)) - len(emptied)
    assert heap.stats()[0].fragmentation <= ratio


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(kept=KEPT)
def test_with_budget_enough_no_more_superblocks_are_used_than_must_be(kept: list[set[int]]) -> None:
    heap = heap_of(len(kept))
    owners = holes(heap, [sorted(pages) for pages in kept])
    for _ in range(len(kept)):
        compact(heap)
        finish_step(heap)
    assert sum(map(bool, used(heap))) == -(-len(owners) // W)


def test_holders_of_a_superblock_are_rows_and_nodes() -> None:
    heap = heap_of(3)
    one = hold(heap, W + 2, "a", token=1)
    heap.publish(one, 2 * P)
    branch = heap.fork(one, "branch")
    assert branch is not None
    scan = HolderScan(heap, 0)
    first, second = scan.holders(0, W), scan.holders(W, 2 * W)
    assert first.slots == second.slots == [one.slot, branch.slot]
    assert (first.nodes, second.nodes) == ([one.tip], [])
    assert (first.references, first.entries) == (2 * W + 2, 2 + 2)
    assert (second.references, second.entries) == (2 * 2, 2)
