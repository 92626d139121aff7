"""What the planner says fits at a time, against a sweep on the CPU engine with real tensors."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cpu.families import make_family
from infergc.bench.concurrency import Sweep, sweep
from infergc.cli import main
from infergc.config import engine_config
from samples.lengths import at_length

FEW = [("qwen2_mixed", 30, 30)]  # of one kind of layer the other tests are
CASES = at_length(FEW, [*FEW, ("llama3", 100, 12), ("llama3", 48, 24), ("llama3", 20, 60)])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("llama3", tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="module")
def short_answers(llama: Path) -> dict[str, Any]:
    """The plan of answers of two tokens after prompts of which few make a step."""
    return planned(llama, 60, 2, step=128)


def measured(model: Path, input_len: int, output_len: int, step: int) -> Sweep:
    memory = {"kv_cache_memory": "1MiB", "max_num_batched_tokens": step}
    found = sweep(engine_config(model=model, dtype="float32", **memory), input_len, output_len)
    assert found.measured >= 8, "the sweep is fine enough to tell a tenth"
    assert not found.points[-1].holds, "the sweep goes to the end of what holds"
    return found


def planned(model: Path, input_len: int, output_len: int, step: int) -> dict[str, Any]:
    file = model.parent / "plan.json"
    memory = ["--kv-cache-memory", "1MiB", "--max-num-batched-tokens", str(step), "--device", "l4"]
    lengths = ["--input", str(input_len), "--output", str(output_len)]
    result = CliRunner().invoke(main, ["plan", "--model", str(model), *lengths, *memory, "--json", str(file)])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize(("family", "input_len", "output_len"), CASES)
def test_the_plan_is_within_a_tenth_of_what_is_measured(
    family: str, input_len: int, output_len: int, tmp_path: Path
) -> None:
    model = make_family(family, tmp_path / "model")
    found = measured(model, input_len, output_len, step=128)
    plan = planned(model, input_len, output_len, step=128)
    assert abs(plan["run_at_once"] - found.measured) <= 0.1 * found.measured
    assert plan["run_at_once"] == found.planned
    assert plan["fit"] >= plan["run_at_once"]


def test_what_fits_is_measured_where_a_step_takes_all_prompts(llama: Path, short_answers: dict[str, Any]) -> None:
    """With short steps fewer run at once: answers of two tokens end before memory is full."""
    found = measured(llama, 60, 2, step=4096)
    assert abs(short_answers["fit"] - found.measured) <= 0.1 * found.measured
    assert short_answers["run_at_once"] < 0.5 * found.measured


def test_the_command_says_what_ran_at_once_not_what_fits(
    llama: Path, short_answers: dict[str, Any], tmp_path: Path
) -> None:
    """Here memory holds more than run at once. The sweep once began above what runs, ended there, and measured 0."""
    file = tmp_path / "sweep.json"
    load = ["--input-len", "60", "--output-len", "2", "--max-num-batched-tokens", "128"]
    engine = ["--dtype", "float32", "--kv-cache-memory", "1MiB"]
    result = CliRunner().invoke(
        main, ["bench", "concurrency", "--model", str(llama), *load, *engine, "--json", str(file)]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["planned"] == short_answers["run_at_once"] < 0.5 * short_answers["fit"]
    assert found["measured"] >= 8, "fine enough to tell a tenth"
    assert abs(found["planned"] - found["measured"]) <= 0.1 * found["measured"]
    assert f"Run at once: {found['measured']} measured, {found['planned']} planned" in result.output
    assert "fit" not in result.output.lower()
