"""Compaction under the real engine: pages move all the time, and every stream stays the same to the bit."""

from pathlib import Path
from typing import Any

import pytest

from cpu.families import FAMILIES, make_family
from cpu.test_engine_families import engine_for, prompts_of
from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Command
from infergc.heap.compactor import Compaction
from infergc.units import MIB
from samples.engines import Results, submit

ALWAYS = Compaction(budget=1 << 20, sparse=1.0, fragmentation=0.0, spare=0.0, rest=0)
LENGTHS = (5, 133, 410, 16, 290, 650, 7, 264, 128, 17, 460, 48, 1, 500, 30, 380, 70, 320, 64, 210, 9, 300) * 2
# Request → the iteration at which it is dropped.
ABORTED = {2: 9, 5: 24, 8: 14, 10: 31, 15: 40, 17: 33, 21: 38, 24: 50, 27: 47, 31: 60, 35: 66, 41: 70}
PAGE = 64  # so that a superblock has but 16 pages


def load() -> list[Any]:
    prompts = prompts_of(LENGTHS)
    return [
        submit(
            f"r{index}", prompt if index % 4 == 0 else prompt[::-1], max_tokens=10 + 37 * index % 60, ignore_eos=True,
            temperature=1.2 if index % 3 else 0.0, top_p=0.9, seed=index, logprobs=5,
        )
        for index, prompt in enumerate(prompts)
    ]  # fmt: skip


def drive(engine: Engine) -> Results:
    """Requests come one an iteration, some are dropped on the way; the laws are checked after each."""
    results, requests, iteration = Results(), load(), 0
    while requests or engine.has_work():
        commands: list[Command] = [requests.pop(0)] if requests else []
        commands += [Abort(f"r{index}") for index, at in ABORTED.items() if at == iteration]
        results.take(engine.step(commands).news())
        engine.heap.check()
        iteration += 1
    return results


def served(directory: Path, knobs: Compaction | None, **settings: Any) -> tuple[Results, Engine]:
    engine = engine_for(
        directory, kv_cache_memory=16 * MIB, block_size=PAGE, compaction=knobs is not None, max_num_seqs=10,
        max_num_batched_tokens=256, **settings,
    )  # fmt: skip
    if knobs is not None:
        assert engine.heap.compactor is not None
        engine.heap.compactor.knobs = knobs
    results = drive(engine)
    engine.close()
    assert not results.errors
    return results, engine


@pytest.mark.parametrize(
    ("family", "depth"), [*((family, 2) for family in FAMILIES), ("llama3", 1), ("qwen2_mixed", 1)]
)
def test_streams_are_the_same_to_the_bit(family: str, depth: int, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    still, _ = served(directory, None, pipeline_depth=depth)
    moving, engine = served(directory, ALWAYS, pipeline_depth=depth)
    counters = engine.heap.counters
    assert counters.compactions >= 10, "a load that hardly moves a page proves little"
    assert counters.moved >= 20
    for name, tokens in still.tokens.items():
        if int(name[1:]) not in ABORTED:
            assert moving.tokens[name] == tokens
            assert moving.logprobs[name] == still.logprobs[name]
        else:
            common = min(len(tokens), len(moving.tokens[name]))
            assert moving.tokens[name][:common] == tokens[:common]
