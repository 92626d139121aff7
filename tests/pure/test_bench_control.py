"""``infergc bench control`` at tiny sizes, in real runs."""

import gc
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from infergc.bench.control import SCENARIOS, ControlLoad, measure, plain
from infergc.cli.main import main
from infergc.config import ConfigError

TINY = {"input_len": 40, "output_len": 8, "batched_tokens": 64}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_token_is_counted_and_every_cost_is_positive(scenario: str, depth: int) -> None:
    load = ControlLoad(6, **TINY, pipeline_depth=depth)
    result = measure(load, scenario)
    tokens = sum(request.params.max_tokens for request in load.requests(scenario))
    assert result.overall.tokens == tokens == result.counters["generation_tokens"]
    assert result.overall.us_per_token > 0
    assert result.overall.executor_us_per_token > 0
    spread = result.overall.us_per_step
    assert 0 < spread.median <= spread.p99 <= spread.max
    assert spread.mean * spread.n == pytest.approx(result.overall.us_per_token * tokens)


def test_in_lockstep_the_steps_of_pure_decode_stand_apart() -> None:
    result = measure(ControlLoad(4, 16, 20), "lockstep")
    assert result.decode is not None
    assert 10 <= result.decode.us_per_step.n < result.overall.us_per_step.n
    assert result.decode.tokens == 4 * result.decode.us_per_step.n


def test_in_churn_the_cache_evicts_and_a_shared_prefix_hits() -> None:
    load = ControlLoad(4, 64, 8, shared_prefix=32, waves=6)
    counters = measure(load, "churn").counters
    assert counters["evicted"] > 0
    assert counters["prefix_hits"] >= 32 * 16  # all but those that came before the first was computed
    assert measure(ControlLoad(4, 64, 8, waves=6), "churn").counters["prefix_hits"] < 24


def test_a_load_is_drawn_from_its_seed() -> None:
    one, same, other = (ControlLoad(2, **TINY, seed=seed).requests("churn") for seed in (1, 1, 2))
    assert one == same != other


def test_measuring_leaves_the_garbage_collector_as_it_was() -> None:
    measure(ControlLoad(2, **TINY), "lockstep")
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("load", "flag"),
    [
        (ControlLoad(2, 16, 4, shared_prefix=17), "--shared-prefix"),
        (ControlLoad(2, slack=0.5), "--slack"),
        (ControlLoad(2, slack=float("nan")), "--slack"),
        (ControlLoad(2, slack=float("inf")), "--slack"),
        (ControlLoad(2, slack=1e12), "--slack"),
        (ControlLoad(2, 2_000_000), "--input-len and --output-len"),
        (ControlLoad(2, 1000, 1_000_000), "--input-len and --output-len"),
        (ControlLoad(4096, 1_000_000), "--running 4096"),
        (ControlLoad(2, block_size=12), "--block-size"),
    ],
)
def test_a_load_that_cannot_run_names_the_flag(load: ControlLoad, flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag}: "):
        measure(load, "lockstep")


def test_figures_are_plain_data_by_running_sequences() -> None:
    results = [measure(ControlLoad(count, **TINY), scenario) for count in (2, 3) for scenario in SCENARIOS]
    data = json.loads(json.dumps(plain(results)))
    assert list(data["by_running"]) == ["2", "3"]
    assert data["by_running"]["3"]["churn"]["us_per_token"] == results[-1].overall.us_per_token
    assert data["config"]["input_len"] == 40


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    sizes = ["--running", "2,8,2", "--input-len", "20", "--output-len", "12"]
    done = CliRunner().invoke(main, ["bench", "control", *sizes, "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "lockstep, decode" in done.output
    assert "churn, overall" in done.output
    assert "4 times the sequences" in done.output
    assert done.output.count("lockstep, overall") == 2
    assert "µs a token" in done.output
    assert json.loads(file.read_text())["by_running"]["8"]["num_blocks"] == 8 * 2 * 1.25 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--running", "8,x"), "write for example 64,256,1024"),
        (("--running", "5000"), "each must be 1 to 4096"),
        (("--running", "1", "--shared-prefix", "513"), "--shared-prefix: 513 is not allowed"),
        (("--running", "1", "--block-size", "0"), "--block-size"),
        (("--json", "/nowhere/x.json"), "Error: --json: cannot write /nowhere/x.json: No such file or directory"),
        (("--running", "1", "--block-size", "17"), "--block-size: 17 is not one of 8, 16, 32, 64"),
    ],
)
def test_bad_input_is_refused_by_name(arguments: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(main, ["bench", "control", *arguments])
    assert done.exit_code == 2
    assert message in done.output
