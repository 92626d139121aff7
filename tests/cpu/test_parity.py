"""Parity: what the CPU engine did, replayed through the simulator, gives the identical event stream."""

from pathlib import Path

import pytest

from cpu.families import make_family
from cpu.test_engine_families import LENGTHS, load_of, prompts_of
from infergc.config import engine_config
from infergc.engine.assembly import assemble, load_executor
from infergc.engine.record import Recorder, replay
from infergc.sim.executor import SimExecutor
from samples.engines import run


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_the_simulator_behaves_as_the_engine_did(family: str, depth: int, tmp_path: Path) -> None:
    settings = {
        "model": make_family(family, tmp_path),
        "dtype": "float32",
        "max_num_batched_tokens": 48,
        "max_num_seqs": 8,
        "pipeline_depth": depth,
        "kv_cache_memory": "400KiB",  # short enough to preempt and reclaim
    }
    load = load_of(prompts_of(LENGTHS), tokens=60)
    measured, simulated = Recorder(), Recorder()
    executor = load_executor(engine_config(**settings))
    engine = assemble(engine_config(**settings), executor, [measured])
    run(engine, load, check=False)
    facts, counters = executor.facts, engine.scheduler.counters
    engine.close()

    twin = assemble(engine_config(**settings), SimExecutor(facts, measured.outcomes), [simulated])
    replay(measured, twin)
    assert simulated.inputs == measured.inputs
    assert simulated.events == measured.events
    assert twin.scheduler.counters == counters
    assert counters.preemptions > 0
    assert counters.prefix_hits > 0
