"""--heap-debug on a real model: planted bugs fail their steps by name, and a sound engine gives the same streams."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cpu.families import make_family
from infergc.config import engine_config
from infergc.engine.assembly import build_engine
from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Ask, Submit
from infergc.heap.errors import HeapCorruption
from infergc.heap.heap import Heap
from infergc.heap.moves import PageTable
from infergc.units import MIB
from infergc.worker.memory.storage import KVStorage
from samples.engines import Results, run, submit

DEPTHS = pytest.mark.parametrize("depth", [1, 2])
POOL = 20  # pages of the small pool


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("qwen2_mixed", tmp_path_factory.mktemp("model"))


def engine_for(directory: Path, **settings: Any) -> Engine:
    defaults: dict[str, Any] = {
        "model": directory,
        "dtype": "float32",
        "threads": 1,
        "kv_cache_memory": 4 * MIB,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 64,
        "heap_debug": True,
    }
    return build_engine(engine_config(**{**defaults, **settings}))


def storage_of(engine: Engine) -> KVStorage:
    storage: KVStorage = engine._executor._runner._storage
    return storage


def request(name: str, length: int = 40, tokens: int = 12) -> Submit:
    prompt = [(at * 7 + sum(map(ord, name))) % 131 for at in range(length)]
    return submit(name, prompt, max_tokens=tokens, ignore_eos=True, temperature=0.0)


@DEPTHS
def test_a_write_to_a_freed_page_is_found_when_the_page_is_handed_out(directory: Path, depth: int) -> None:
    engine = engine_for(directory, enable_prefix_caching=False, pipeline_depth=depth)
    assert not run(engine, [request("first", 100)]).errors
    assert not run(engine, [request("short", 40)]).errors  # with its plan the first one's pages are poisoned
    storage_of(engine).layer(2)[1][5, 1, 3, 2] = 2.0
    error = run(engine, [request("next", 100)]).errors["next"]
    assert "page 5 of group full was written while it was free: 1 values, the first in V of layer 2, " in error
    assert "head 1, token 3, dim 2, where 0x40000000 stands and not 0x7fdec0de" in error
    assert "by Holdings.close < Seating._close < Seating._finish < Landing._gain, written in" in error
    assert "by first, handed out in step" in error
    assert engine.counters.corruptions == 1
    assert not run(engine, [request("next", 100)]).errors
    engine.close()


@DEPTHS
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_read_of_a_free_page_fails_its_request(
    directory: Path, depth: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_step(heap: Heap, slots: Any, starts: Any, counts: Any) -> tuple[PageTable, ...]:
        tables = original(heap, slots, starts, counts)
        if starts[0] == 45:
            tables[0].first[0, 0] = 30
        return tables

    engine = engine_for(directory, pipeline_depth=depth, attention_backend=backend)
    original = Heap.begin_step
    with monkeypatch.context() as patch:
        patch.setattr(Heap, "begin_step", begin_step)
        results = run(engine, [request("a")], check=False)
    assert len(results.tokens["a"]) == 6  # positions 40 … 44 were computed from pages of its own
    error = results.errors["a"]
    assert "row 0 reads poison at position 0: page 30 of group full | row 0 is request a | page 30" in error
    assert not run(engine, [request("b")]).errors
    verified = engine.step([Ask(1, "verify")]).answers[0].value
    assert verified is not None
    assert "page 32 of group full was written while it was free" in verified, "where position 45 went"
    assert engine.counters.corruptions == 2
    engine.close()


@pytest.mark.parametrize(("offset", "where"), [(4, "behind the last page"), (-5, "before the first page")])
def test_a_write_out_of_bounds_fails_a_step_soon(directory: Path, offset: int, where: str) -> None:
    engine = engine_for(directory)
    k_NGPD, _ = storage_of(engine).layer(3)
    start = k_NGPD.storage_offset() + (offset if offset < 0 else k_NGPD.numel() + offset)
    k_NGPD.as_strided((1,), (1,), start).fill_(1.0)
    error = run(engine, [request("a")]).errors["a"]
    assert f"written out of bounds: 1 values {where} of K of layer 3 in group window, the nearest 5 values off" in error
    assert not run(engine, [request("b")]).errors
    assert engine.counters.corruptions == 1
    engine.close()


def test_a_double_free_stops_the_engine_with_the_place_of_the_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(heap: Heap, sequence: Any) -> None:
        extents = heap.tables[0].row(sequence.slot)
        original(heap, sequence)
        heap.groups[0].release(extents[:1])

    engine = engine_for(directory, pipeline_depth=1, enable_prefix_caching=False)
    original = Heap.close
    monkeypatch.setattr(Heap, "close", close)
    with pytest.raises(HeapCorruption, match=r"law 2: freed twice: page 0 of group full: .* by Holdings\."):
        run(engine, [request("a")])
    engine._executor.close()  # the engine itself is beyond that


def mixed_load(engine: Engine) -> Results:
    """Requests that come, share prefixes and are aborted at fixed steps."""
    commands: dict[int, list[Any]] = {
        0: [request(f"r{at}", 30 - at, 60) for at in range(6)],
        9: [Abort("r1")],
        14: [request(f"s{at}", 20 + 9 * at, 40) for at in range(4)],
        15: [Abort("s2"), Abort("r0")],
        40: [request("r1", 29, 60), request("t", 150, 5)],
    }
    results, step = Results(), 0
    while engine.has_work() or step <= max(commands):
        results.take(engine.step(commands.get(step, [])).news())
        step += 1
    return results


def small_pool(directory: Path, **settings: Any) -> Callable[[bool], Engine]:
    engine = engine_for(directory, **settings)
    pages = sum(group.page_bytes for group in engine.heap.config.groups)
    engine.close()
    return lambda debug: engine_for(directory, heap_debug=debug, kv_cache_memory=POOL * pages, **settings)


@DEPTHS
@pytest.mark.parametrize("settings", [{}, {"dtype": "bfloat16"}, {"attention_backend": "reference"}], ids=str)
def test_a_sound_engine_gives_the_same_streams_and_nothing_is_found(
    directory: Path, depth: int, settings: dict[str, Any]
) -> None:
    create = small_pool(directory, pipeline_depth=depth, **settings)
    seen = []
    for debug in (False, True):
        engine = create(debug)
        results = mixed_load(engine)
        seen.append((results.tokens, results.finish, results.errors))
        assert engine.step([Ask(1, "verify")]).answers[0].value == ""
        assert engine.scheduler.counters.preemptions > 0
        assert engine.heap.counters.copies > 0
        assert engine.heap.counters.evicted > 0
        assert engine.counters.corruptions == 0
        engine.close()
    assert seen[0] == seen[1]
    assert set(seen[0][1].values()) == {"length", "abort"}


@DEPTHS
@pytest.mark.parametrize("lost", ["launch", "forward"])
def test_steps_that_fail_for_other_reasons_raise_no_false_alarm(
    directory: Path, depth: int, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that never arrived leaves pages unpoisoned, one that stopped half way leaves slots unwritten."""
    engine = small_pool(directory, pipeline_depth=depth)(True)
    owner, name = {
        "launch": (engine._executor, "launch"),
        "forward": (engine._executor._runner._forward, "_forward"),
    }[lost]
    original = getattr(owner, name)

    def fails_now_and_then(plan: Any, *rest: Any) -> Any:
        if plan.step % 31 == 6 and len(plan.slots):
            raise RuntimeError("lost")
        return original(plan, *rest)

    monkeypatch.setattr(owner, name, fails_now_and_then)
    results = mixed_load(engine)
    assert not results.errors
    assert engine.counters.failed_steps > 0
    assert engine.step([Ask(1, "verify")]).answers[0].value == ""
    monkeypatch.undo()
    assert not run(engine, [request(f"u{at}", 30, 40) for at in range(8)]).errors
    assert engine.counters.corruptions == 0
    engine.close()
