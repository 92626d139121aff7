"""Nobody finds what another tenant's requests left, in whatever tier it lies (law 7)."""

from dataclasses import replace

import numpy as np
import pytest

from infergc.heap.heap import Heap
from infergc.heap.keys import keys_of, root_key
from infergc.heap.names import names_behind
from infergc.heap.nodes import Namespace
from infergc.policies.retention.lru import Lru
from samples.engines import VOCAB, make_engine, run, submit
from samples.heaps import P, finished, small_shape
from samples.reclaiming import reclaim

PROMPT = [(at * 7) % VOCAB for at in range(64)]
OTHERS = ("", "b", "a ", "aa", "A")


def test_no_two_namespaces_share_a_key() -> None:
    """Whatever is written into a name: model and salt do not run into each other."""
    tokens = np.zeros(4 * P, np.int32)
    namespaces = [Namespace(model, salt) for model in ("m", "ma", "m:1", "") for salt in ("", "a", "aa", "1:", ":")]
    keys = {key for one in namespaces for key in keys_of(root_key(one), tokens, P)}
    assert len(keys) == 4 * len(namespaces)


@pytest.mark.parametrize("other", [Namespace("m", "b"), Namespace("m"), Namespace("n", "a")])
def test_a_heap_finds_nothing_of_another_namespace(other: Namespace) -> None:
    heap = Heap(replace(small_shape(), host_slots=32, disk=True), Lru())
    assert heap.tiers is not None
    disk = heap.tiers.disk
    assert disk is not None
    tokens = np.arange(4 * P, dtype=np.int32)
    finished(heap, tokens.tolist(), "a")
    heap.tiers.save(4, heap.planning)
    reclaim(heap, 3)
    for job in disk.jobs(heap.completed):
        disk.has_written([name.key for name, _ in job.pages], well=True)
    mine = Namespace("m", "a")
    pages, found = heap.below(mine, tokens)
    assert (pages, len(found)) == (1, 3)
    assert len(disk.keys) == 4
    assert heap.below(other, tokens) == (0, [])
    stream = list(heap.stream(other, tokens)[1])
    assert len(stream) == 4
    assert disk.find(stream).names == []
    assert not {name.key for name in stream} & disk.keys


def test_a_key_alone_is_no_hit() -> None:
    """Keys that are the same by chance, or because somebody found two such texts, find nothing."""
    heap = Heap(replace(small_shape(), host_slots=8), Lru())
    assert heap.tiers is not None
    host = heap.tiers.host
    one, other = (next(names_behind(b"k" * 16, np.full(P, token, np.int32), P, Namespace("m"))) for token in (1, 2))
    host.put([one])
    assert host.find(one) >= 0
    assert host.find(other._replace(key=one.key)) == -1
    assert host.find(one._replace(before=b"other")) == -1


def test_an_engine_gives_no_tenant_what_is_anothers() -> None:
    """Device, host and disk hold the prompt for one of them; the others compute all of it."""
    engine = make_engine(pages=6, host_cache_memory=8000, disk_cache_dir="nowhere")
    run(engine, [submit("mine", PROMPT, salt="a", max_tokens=4)])
    for at, salt in enumerate(OTHERS):
        results = run(engine, [submit(f"theirs{at}", PROMPT, salt=salt, max_tokens=4)])
        assert results.cached == {f"theirs{at}": 0}
    assert engine.heap.tiers is not None
    assert engine.heap.tiers.disk is not None
    assert engine.heap.tiers.counters.demoted > 0
    assert len(engine.heap.tiers.disk.keys) > 3 * len(OTHERS)
    results = run(engine, [submit("mine again", PROMPT, salt="a", max_tokens=4)])
    assert results.cached == {"mine again": 48}
    assert engine.heap.tiers.disk.counters.read > 0
