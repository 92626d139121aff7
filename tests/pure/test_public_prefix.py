"""Pages of a text that was declared public are shared by all tenants, and nothing of what follows it."""

from dataclasses import replace

import numpy as np
import pytest

from infergc.heap.heap import Heap
from infergc.heap.keys import root_key
from infergc.heap.marks import marks_in, marks_of_prompt
from infergc.heap.nodes import Namespace
from infergc.heap.objects import Sequence, TokenLog
from infergc.policies.retention.lru import Lru
from samples.engines import VOCAB, make_engine, run, submit
from samples.heaps import P, compute, small_heap, small_shape
from samples.reclaiming import reclaim

PUBLIC = list(range(100, 100 + 3 * P))
OWN = list(range(200, 200 + 3 * P))
SALTS = ("", "a", "b", "aa", "\0", "a:", "é", "a" * 300)
NAMES = tuple(Namespace("m", salt, 3) for salt in SALTS)


def opened(heap: Heap, tokens: list[int], namespace: Namespace) -> Sequence:
    sequence = heap.open(f"s{namespace.salt}", TokenLog(np.array(tokens, np.int32)), namespace)
    assert sequence is not None
    return sequence


def done(heap: Heap, tokens: list[int], namespace: Namespace) -> int:
    """A request that shares what it finds, computes the rest and goes; returns the tokens it found."""
    sequence = opened(heap, tokens, namespace)
    found = heap.share_prefix(sequence, len(tokens) - 1)
    compute(heap, sequence, len(tokens), found)
    heap.close(sequence)
    heap.check()
    return found


def test_doors_are_told_apart() -> None:
    """No door begins another, nor a key of tokens alone: so keys behind one stand side by side among a node's."""
    doors = [name.door(3) for name in NAMES]
    pages = [np.array([token] * P, np.int32).tobytes() for token in (0, 1, 2**31 - 1)]
    starts = [*doors, *pages]
    assert all(one is other or not other.startswith(one) for one in starts for other in starts)
    assert [NAMES[1].door(page) for page in (0, 2, 4)] == [b"", b"", b""]
    assert Namespace("m", "a").door(0) == b""


@pytest.mark.parametrize("other", [name for name in NAMES if name.salt != "a"], ids=lambda name: name.salt[:4])
def test_of_the_same_prompt_another_tenant_finds_the_public_pages_alone(other: Namespace) -> None:
    """Whole pages: not the public text's last part of a page, and no part of a page behind it."""
    heap, prompt = small_heap(), [*PUBLIC, *OWN, 1]
    assert done(heap, prompt, NAMES[1]) == 0
    assert done(heap, prompt, other) == 3 * P
    assert done(heap, prompt, other) == 6 * P
    assert done(heap, prompt, NAMES[1]) == 6 * P
    assert done(heap, prompt, Namespace("m", "a")) == 0
    assert done(heap, [*PUBLIC, *OWN[: P + 3], 7, 7], other) == 4 * P + 3  # its own, in part


def test_of_another_prompt_the_public_pages_alone_are_found() -> None:
    heap = small_heap()
    done(heap, [*PUBLIC, *OWN], NAMES[1])
    assert done(heap, [*PUBLIC, *OWN[: P // 2], 5, 5, 5], NAMES[2]) == 3 * P
    assert heap.found(NAMES[3], np.array([*PUBLIC, *OWN], np.int32)) == 3 * P
    assert heap.counters.deduplicated == 0
    public = [node for node in heap.tree.nodes() if not node.door]
    assert [node.tokens.view().tolist() for node in public] == [PUBLIC]
    assert [node.door for node in heap.tree.nodes() if node.door] == [NAMES[1].door(3)]


def test_texts_that_begin_alike_share_what_they_share() -> None:
    """One is public for two pages and its tenant's from there, the other for three: neither finds more than that."""
    heap = small_heap()
    short = [*PUBLIC[: 2 * P], *OWN]
    done(heap, [*PUBLIC, *OWN], NAMES[1])
    assert done(heap, short, Namespace("m", "a", 2)) == 2 * P
    assert done(heap, short, Namespace("m", "b", 2)) == 2 * P
    assert done(heap, [*PUBLIC, *OWN], NAMES[2]) == 3 * P
    # Half of the third page begins as the public one does: it is the tenant's all the same.
    assert done(heap, [*PUBLIC[: 2 * P + 3], 9, *OWN], Namespace("m", "b", 2)) == 2 * P


def test_who_computes_the_same_later_keeps_its_own_pages() -> None:
    """Two tenants at once: the public pages become one, those behind them never."""
    heap, prompt = small_heap(), [*PUBLIC, *OWN]
    both = [opened(heap, prompt, name) for name in NAMES[1:3]]
    for sequence in both:
        compute(heap, sequence, len(prompt))
    assert heap.counters.deduplicated == 3
    assert heap.stats()[0].live == 3 + 2 * 3
    for sequence in both:
        heap.close(sequence)
    heap.check()


def test_below_the_device_others_find_the_public_pages_alone() -> None:
    heap = Heap(replace(small_shape(), host_slots=64, disk=True), Lru())
    assert heap.tiers is not None
    disk = heap.tiers.disk
    assert disk is not None
    tokens = np.array([*PUBLIC, *OWN], np.int32)
    done(heap, tokens.tolist(), NAMES[1])
    heap.tiers.save(6, heap.planning)
    reclaim(heap, 6)
    for job in disk.jobs(heap.completed):
        disk.has_written([name.key for name, _ in job.pages], well=True)
    heap.check()
    assert len(disk.keys) == 6
    for name in NAMES:
        mine = 6 if name.salt == "a" else 3
        pages, found = heap.below(name, tokens)
        assert (pages, len(found)) == (0, mine)
        heap.tiers.planned()
        keys = {one.key for one in heap.stream(name, tokens)[1]}
        assert len(keys & disk.keys) == mine
    assert heap.below(Namespace("m", "a"), tokens) == (0, [])


def test_restored_pages_stand_behind_the_door_again() -> None:
    heap = Heap(replace(small_shape(), host_slots=32), Lru())
    tokens = [*PUBLIC, *OWN]
    done(heap, tokens, NAMES[1])
    reclaim(heap, 6)
    sequence = opened(heap, tokens, NAMES[1])
    pages, names = heap.below(NAMES[1], np.array(tokens, np.int32))
    assert heap.continues(sequence, names)
    assert (pages, heap.restore(sequence, names, 4)) == (0, 6 * P)
    heap.check()
    assert [node.door for node in heap.tree.path(sequence.tip)] == [b"", NAMES[1].door(3)]


def test_marks_go_through_the_door_with_their_tenant() -> None:
    heap, tokens = small_heap(), np.array([*PUBLIC, *OWN], np.int32)
    marks = [marks_of_prompt(name, tokens, P) for name in NAMES[:3]]
    assert len({tuple(one[:3].tolist()) for one in marks}) == 1
    assert len({mark for one in marks for mark in one[3:].tolist()}) == 3 * 3
    done(heap, tokens.tolist(), NAMES[1])
    ours = np.concatenate([marks_in(node) for node in heap.tree.path(heap.tree.nodes()[-1])])
    assert np.array_equal(ours, marks[1])


def test_a_public_beginning_is_no_tenants_namespace() -> None:
    """Least of all that of those who have no salt."""
    roots = {root_key(Namespace("m", salt, public)) for salt in SALTS for public in (0, 1, 3)}
    assert len(roots) == len(SALTS) + 1


PROMPT = [(at * 7) % VOCAB for at in range(64)]


def test_an_engine_shares_whole_public_pages() -> None:
    """37 tokens are declared, so two pages of 16 are shared; in device, host and disk."""
    engine = make_engine(pages=6, host_cache_memory=8000, disk_cache_dir="nowhere", tiering_policy="always")
    expected = run(make_engine(), [public("mine", "a")]).tokens["mine"]
    for name, salt, cached in (("mine", "a", 0), ("theirs", "b", 32), ("mine again", "a", 48), ("other", "c", 32)):
        results = run(engine, [public(name, salt)])
        assert results.cached == {name: cached}
        assert len(results.tokens[name]) == len(expected)
        run(engine, [submit(f"flood {name}", [at % VOCAB for at in range(len(name), 90)], max_tokens=2)])
    assert engine.heap.tiers is not None
    assert engine.heap.tiers.counters.demoted > 0


@pytest.mark.parametrize("tokens", [-1, 65])
def test_what_cannot_be_public_is_refused(tokens: int) -> None:
    one = submit("r", PROMPT)
    one.public_tokens = tokens
    assert run(make_engine(), [one]).errors == {"r": f"public_tokens: {tokens} of a prompt of 64"}


def public(name: str, salt: str):
    one = submit(name, PROMPT, salt=salt, max_tokens=4, seed=1)
    one.public_tokens = 37
    return one
