"""``infergc simulate`` as a user runs it: real files, real runs, wrong input."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infergc.cli.main import main

ROWS = [
    {"timestamp": 500 * at, "input_length": 1000, "output_length": 20, "hash_ids": [0, 1 + at % 3]} for at in range(12)
]
PARTS = ("trace", "policy", "capacity_tokens", "requests", "finished", "prefix_hit_rate", "token_hit_rate", "ttft")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in ROWS).encode()))
    return path


def simulate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["simulate", *map(str, arguments)])


def runs(path: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    result = simulate(*arguments, "--json", path)
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text())["runs"]


def test_a_run_for_each_policy_and_capacity(trace: Path, tmp_path: Path) -> None:
    found = runs(
        tmp_path / "a.json", trace, "--policy", "lru,generational", "--capacity", "64000", "--capacity", "2GiB"
    )
    assert [(run["policy"], run["capacity_tokens"]) for run in found] == [
        ("lru", 64000), ("generational", 64000), ("lru", 16384), ("generational", 16384)
    ]  # fmt: skip
    for run in found:
        assert all(run[part] is not None for part in PARTS)
        assert run["requests"] == run["finished"] == 12
        assert run["throughput"]["output_tokens"] > 0
        assert run["peak_live_bytes"] > 0
    assert found[0]["prefix_hit_rate"] == found[0]["collector"]["evicted"] == 0 or found[0]["prefix_hit_rate"] > 0.7


def test_replayed_for_the_cache_alone_there_is_no_time(trace: Path, tmp_path: Path) -> None:
    (run,) = runs(tmp_path / "a.json", trace, "--replay", "cache", "--policy", "lru", "--capacity", "64000")
    first, rest = 3, 9  # each of three texts comes once, and again; the last token is always computed
    shared = (512 - 16) // 16 + 1
    assert run["token_hit_rate"] == pytest.approx((2 * shared * 16 + rest * 992) / 12000)
    assert run["throughput"] is run["ttft"] is None
    assert run["seconds"] is run["e2e"] is None
    assert first + rest == run["finished"]


def test_several_traces_and_workloads_in_one_call(trace: Path, tmp_path: Path) -> None:
    found = runs(tmp_path / "a.json", trace, "beams:requests=3,rate=1", "--model", "llama-3.2-1b", "--slower", "0.5")
    assert [run["trace"] for run in found] == ["trace.jsonl.gz", "beams:requests=3,rate=1"]
    result = simulate("beams:requests=3,rate=1")
    assert "3 requests, all finished" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_only_the_first_requests(trace: Path, tmp_path: Path) -> None:
    (run,) = runs(tmp_path / "a.json", trace, "--requests", "5")
    assert run["requests"] == 5


def test_a_plot_is_drawn(trace: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "memory.png"
    assert simulate(trace, "--policy", "lru,generational", "--plot", picture).exit_code == 0
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    assert width > 600
    assert height > 500


def test_bad_rows_are_named_and_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    rows = [json.dumps(row) for row in ROWS]
    rows[3] = rows[3].replace("1000", "-1000")
    path.write_text("\n".join(rows))
    result = simulate(path)
    assert result.exit_code == 2
    assert "line 4" in result.output
    assert "--skip-bad-rows" in result.output
    result = simulate(path, "--skip-bad-rows")
    assert result.exit_code == 0
    assert "left out line 4" in result.output
    assert "11 requests, all finished" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl"),
        (["chat:requests=0"], "requests"),
        (["chatt"], "system-prompts"),
        (["chat:requests=3", "--model", "llama-3-8"], "llama-3-8b"),
        (["chat:requests=3", "--device", "a100-80"], "a100-80g"),
        (["chat:requests=3", "--policy", "lru,mru"], "'mru' is no retention policy; there are generational, lru"),
        (["chat:requests=3", "--capacity", "lots"], "--capacity"),
        (["chat:requests=3", "--capacity", "1"], "--capacity"),
        (["chat:requests=3", "--device", "l4", "--model", "llama-3-70b"], "llama-3-70b"),
        (["chat:requests=3", "--rate", "-1"], "--rate"),
        (["chat:requests=3", "--slower", "nan"], "--slower"),
        (["chat:requests=3", "--block-tokens", "0"], "--block-tokens"),
        (["chat:requests=3", "--plot", "memory.xyz"], ".svg"),
        (["chat:requests=3", "--plot", "no/such/folder/memory.png"], "--plot: cannot write"),
        (["chat:requests=3", "--json", "no/such/folder/a.json"], "--json: cannot write"),
        (["chat:requests=3", "--max-num-seqs", "0"], "--max-num-seqs"),
        ([], "TRACE"),
    ],
)
def test_wrong_input_is_refused_by_name(arguments: list[str], said: str) -> None:
    result = simulate(*arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_request_that_no_pool_holds_is_said_and_the_others_run(trace: Path) -> None:
    result = simulate(trace, "beams:requests=2", "--capacity", "960")
    assert result.exit_code == 0
    assert "refused: prompt: 1000 tokens" in result.output
