"""The CPU engine with a host tier: what was copied down and up again is what was computed."""

from pathlib import Path
from typing import Any

import pytest

from cpu.families import make_family
from cpu.test_engine_families import load_of, prompts_of
from infergc.config import ConfigError, engine_config
from infergc.engine.assembly import build_engine
from infergc.engine.loop import Engine
from samples.engines import run

LENGTHS = [60, 75, 33, 120, 90, 48, 101, 64]


def engine(model: Path, memory: str, **settings: Any) -> Engine:
    defaults = {"max_num_batched_tokens": 48, "max_num_seqs": 8, "dtype": "float32", "deterministic": True}
    return build_engine(engine_config(model=model, kv_cache_memory=memory, **{**defaults, **settings}))


def swaps_and_says_the_same(model: Path, roomy: dict[str, Any], tight: dict[str, Any]) -> None:
    """Requests that give way to each other and are swapped go on as those that had room from the start."""
    load = load_of(prompts_of(LENGTHS), tokens=60)
    wide = engine(model, "8MiB", **roomy)
    wanted = run(wide, load).tokens
    wide.close()
    narrow = engine(model, "400KiB", host_cache_memory="4MiB", preemption="swap", **tight)
    results = run(narrow, load)
    tiers, counters = narrow.heap.tiers, narrow.scheduler.counters
    narrow.close()
    assert results.tokens == wanted
    assert tiers is not None
    assert counters.preemptions > 0
    assert tiers.counters.demoted > 0
    assert tiers.counters.promoted > 0
    assert counters.recomputed_tokens < 16 * counters.preemptions + 1  # the page that was not full


@pytest.mark.parametrize("settings", [{}, {"pipeline_depth": 1}, {"heap_debug": True}])
@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_swapped_requests_say_what_they_would_have_said(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    swaps_and_says_the_same(make_family(family, tmp_path), {}, settings)


def test_what_is_on_disk_is_there_after_a_restart(tmp_path: Path) -> None:
    model = make_family("llama3", tmp_path)
    load = load_of(prompts_of(LENGTHS), tokens=8)
    place = {"disk_cache_dir": tmp_path / "kv", "disk_cache_size": "64MiB"}
    first = engine(model, "4MiB", **place)
    wanted = run(first, load)
    first.close()
    second = engine(model, "4MiB", **place)
    results = run(second, load)
    disk = second.heap.tiers.disk if second.heap.tiers is not None else None
    second.close()
    assert results.tokens == wanted.tokens
    assert disk is not None
    assert disk.counters.read > 0
    assert all(results.cached[f"r{at}"] >= (length - 1) // 16 * 16 for at, length in enumerate(LENGTHS))


def test_other_weights_find_nothing(tmp_path: Path) -> None:
    place = {"disk_cache_dir": tmp_path / "kv"}
    for family, hits in (("llama3", 0), ("llama3", 1), ("qwen2_mixed", 0)):
        one = engine(make_family(family, tmp_path / f"{family}{hits}"), "4MiB", **place)
        results = run(one, load_of(prompts_of([60]), tokens=4))
        one.close()
        assert (results.cached["r0"] > 0) == bool(hits)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "kv").touch()
    with pytest.raises(ConfigError, match=r"--disk-cache-dir: .*kv is a file"):
        engine(make_family("llama3", tmp_path / "model"), "4MiB", disk_cache_dir=tmp_path / "kv")
