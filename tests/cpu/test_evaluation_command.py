"""``infergc eval`` from end to end: its files, its tables, a kill in the middle; and recall of a constructed model."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cpu import degraded
from cpu.served import make_served
from infergc.cli.main import main

ROOT = Path(__file__).parents[2]
INDUCTION = ROOT / "tools" / "make_induction_model.py"
ENGINE = ("--dtype", "float32", "--kv-cache-memory", "16MiB", "--threads", "1", "--deterministic")
SMALL = ("--tasks", "passkey,single-key", "--lengths", "250", "--depths", "0,1", "--seeds", "2", "--text-tokens", "150")
CELLS = 2 * 2 * 2  # tasks, depths, seeds
WINDOWS = 2 * 2  # roles, seeds


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


def arguments(model: Path, out: Path, *others: object) -> list[str]:
    return ["eval", "--model", *map(str, (model, "--out", out, *SMALL, *ENGINE, *others))]


def evaluated(model: Path, out: Path, *others: object) -> tuple[str, dict[str, Any]]:
    result = CliRunner().invoke(main, arguments(model, out, *others))
    assert result.exit_code == 0, result.output
    return result.output, strict(out / "results.json")


def strict(file: Path) -> dict[str, Any]:
    """JSON as others read it: no NaN, no infinity."""
    return json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def refused(model: Path, out: Path, *others: object) -> str:
    result = CliRunner().invoke(main, arguments(model, out, *others))
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def test_it_writes_json_a_picture_and_tables(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    output, results = evaluated(model, out, "--executor", degraded.NAME, "--json", tmp_path / "copy.json")
    assert strict(tmp_path / "copy.json") == results
    assert (out / "results.png").stat().st_size > 20_000
    assert (out / "results.png").read_bytes()[:4] == b"\x89PNG"
    assert len((out / "cells.jsonl").read_text().splitlines()) == 2 * CELLS + WINDOWS + 2
    assert results["lossy"] == {"executor": degraded.NAME}
    assert results["text"]["kl"]["mean"] > 0
    assert [(row["task"], row["usable"]) for row in results["retrieval"]] == [("passkey", False), ("single-key", False)]
    said = " ".join(output.split())
    for words in (degraded.NAME, "made up: their perplexity says little", "passkey", "unusable", "KV held"):
        assert words in said, words


def test_a_run_that_was_killed_is_taken_up_where_it_was(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = out / "cells.jsonl"
    command = [sys.executable, "-m", "infergc.cli", *arguments(model, out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_lines(record, 4, process)
        process.send_signal(signal.SIGKILL)
    assert not (out / "results.json").exists()
    before = record.read_bytes()
    with record.open("ab") as file:
        file.write(b'{"key": "half a li')
    _, results = evaluated(model, out)
    assert record.read_bytes().startswith(before)
    keys = [json.loads(line)["key"] for line in record.read_text().splitlines()]
    of_cells = [json.loads(line)["key"] for line in record.read_text().splitlines() if '"kind":"kv"' not in line]
    assert len(of_cells) == len(set(of_cells)) == CELLS + WINDOWS, "nothing was measured twice"
    assert len(set(keys)) == CELLS + WINDOWS + 1
    _, whole = evaluated(model, tmp_path / "whole")
    assert {**whole, "kv": None} == {**results, "kv": None}, "as if it had not been killed"
    assert results["text"]["kl"]["max"] == 0


def wait_for_lines(file: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not file.is_file() or file.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, "it ended too soon"
        assert time.monotonic() < deadline, "nothing was recorded"
        time.sleep(0.002)


def test_what_cannot_be_is_refused_by_option(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "--tasks: there is no 'what'; there are passkey" in refused(model, out, "--tasks", "what")
    assert "--lengths: passkey: 64 tokens are too few" in refused(model, out, "--lengths", "64")
    assert "--lengths: 5000 tokens are over the 4096" in refused(model, out, "--lengths", "5000")
    assert "--text-tokens: 5000 tokens are over the 4096" in refused(model, out, "--text-tokens", "5000")
    assert "'--depths': \"1.5\" is not allowed; it must be from 0 to 1" in refused(model, out, "--depths", "0,1.5")
    assert "'--lengths': \"250,,1\" names nothing in one place" in refused(model, out, "--lengths", "250,,1")
    assert "--text: cannot read /nowhere: No such file" in refused(model, out, "--text", "/nowhere")
    assert "--prefill: 150 is not less than --text-tokens, 150" in refused(model, out, "--prefill", "150")
    assert "nothing is left to measure" in refused(model, out, "--tasks", "none", "--no-text")
    assert "cannot make the folder" in refused(model, model / "config.json")


def test_a_model_that_recalls_by_construction_is_found_to(tmp_path: Path) -> None:
    if not INDUCTION.is_file():
        pytest.skip("there is no tools/make_induction_model.py")
    model = tmp_path / "model"
    subprocess.run([sys.executable, INDUCTION, model], cwd=ROOT, check=True, capture_output=True)
    tasks = ("--tasks", "passkey,single-key", "--lengths", "1000", "--no-text")
    _, full = evaluated(model, tmp_path / "out", *tasks)
    for row in full["retrieval"]:
        assert row["usable"]
        assert row["score"]["mean"] == row["reference_score"]["mean"] == 1
        assert row["shared"] > 0.95
    _, lossy = evaluated(model, tmp_path / "out", *tasks, "--executor", degraded.NAME)
    assert all(row["usable"] for row in lossy["retrieval"])
    assert [row["reference_score"] for row in lossy["retrieval"]] == [row["score"] for row in full["retrieval"]]
