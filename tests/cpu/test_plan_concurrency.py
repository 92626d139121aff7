"""What the planner says fits at a time, against a sweep on the CPU engine with real tensors."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cpu.families import make_family
from infergc.bench.concurrency import sweep
from infergc.cli import main
from infergc.config import engine_config

CASES = [("llama3", 48, 24), ("llama3", 20, 60), ("llama3", 100, 12), ("qwen2_mixed", 30, 30)]


@pytest.mark.parametrize(("family", "input_len", "output_len"), CASES)
def test_the_plan_is_within_a_tenth_of_what_is_measured(
    family: str, input_len: int, output_len: int, tmp_path: Path
) -> None:
    model, file = make_family(family, tmp_path / "model"), tmp_path / "plan.json"
    memory = {"kv_cache_memory": "1MiB", "max_num_batched_tokens": 128}
    found = sweep(engine_config(model=model, dtype="float32", **memory), input_len, output_len)
    assert found.measured >= 8, "the sweep is fine enough to tell a tenth"
    assert not found.points[-1].holds, "memory is the limit, not the sweep"

    arguments = ["--kv-cache-memory", "1MiB", "--max-num-batched-tokens", "128", "--device", "l4", "--json", str(file)]
    lengths = ["--input", str(input_len), "--output", str(output_len)]
    result = CliRunner().invoke(main, ["plan", "--model", str(model), *lengths, *arguments])
    assert result.exit_code == 0, result.output
    plan = json.loads(file.read_text())
    assert abs(plan["concurrency"] - found.measured) <= 0.1 * found.measured
    assert plan["concurrency"] == found.planned
