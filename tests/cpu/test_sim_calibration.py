"""A real calibration, briefly: that it measures, fits, is saved and read; how well is for a quiet machine to say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from cpu.families import FAMILIES, make_family
from infergc.bench.calibrate import Prediction, Report
from infergc.cli.bench.calibrate import show
from infergc.cli.main import main
from infergc.models.hf_config import model_spec, read_config
from infergc.models.weights import nbytes
from infergc.sim.calibration import TERMS, Calibration, HeldOut, read_calibration
from infergc.sim.catalog import geometry_named
from infergc.sim.hf_geometry import read_geometry
from infergc.sim.targets import cost_on
from infergc.worker.memory.storage import layer_groups
from samples.step_plans import decodes, step_plan

SETTINGS = ("--kv-cache-memory", "16MiB", "--threads", "1", "--max-num-seqs", "8", "--longest", "64", "--rounds", "2")


def calibrate(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["bench", "calibrate", *map(str, arguments), *SETTINGS])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_calibration_fits_saves_and_predicts(tmp_path: Path) -> None:
    model, file = make_family("qwen2_mixed", tmp_path / "it"), tmp_path / "cpu.json"
    code, output = calibrate("--model", model, "--json", file, "--load", "3x20x4")
    assert code == 0, output
    for row in ("fitted to", "held out", "decodes alone", "with chunks", "3x20x4"):
        assert row in output
    found = read_calibration(file)
    assert (found.threads, found.page_tokens, found.model.name) == (1, 16, "it")
    assert (found.model.dtype, found.backend, len(found.digest) > 8) == ("float32", "cpu", True)
    assert set(found.terms) == set(TERMS)
    assert sum(found.terms.values()) > 0
    assert found.held_out.steps > 20
    cost = cost_on(str(file), read_geometry(model))
    for plan in (decodes(1, 0), decodes(8, 60), step_plan([(0, 64, True), (9, 1, True)])):
        assert 0 < cost.seconds(plan) < 10


def test_what_cannot_run_is_refused_by_flag(tmp_path: Path) -> None:
    model = make_family("llama3", tmp_path / "it")
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("--load", "3x20"), "'3x20' is not a load; write requests"),
        (("--load", "1x4090x20"), "--load: 4090 + 20 tokens are over the 4096"),
        (("--json", "/nowhere/x.json"), "--json: cannot write /nowhere/x.json"),
        (("--max-num-seqs", "0"), "--max-num-seqs"),
    ]
    for flags, message in cases:
        result = CliRunner().invoke(main, ["bench", "calibrate", "--model", str(model), "--threads", "1", *flags])
        assert (result.exit_code, message in result.output) == (2, True), result.output


@pytest.mark.parametrize("family", FAMILIES)
def test_a_geometry_counts_what_the_engine_holds(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    spec, model = model_spec(read_config(directory), torch.float32), read_geometry(directory)
    assert model.weight_bytes == nbytes(spec)
    assert model.facts(16).groups == layer_groups(spec, 16).specs
    assert (model.max_len, model.vocab, model.tied) == (spec.max_len, spec.vocab_size, spec.tied)
    fields = json.loads((directory / "config.json").read_text())
    assert model.heads == fields["num_attention_heads"]


@pytest.mark.parametrize(("noise", "quiet"), [(None, True), (0.01, True), (0.2, False)])
def test_unequal_times_of_equal_steps_are_told_of(noise: float | None, quiet: bool, capsys: Any) -> None:
    held_out = Prediction("held out", 9, 0.1, 0.2, 1.0, noise)
    found = Calibration(
        model=geometry_named("llama-3-8b"), digest="d", backend="cpu", threads=1, page_tokens=16, machine="m",
        software="0", date="2026-01-01", terms=dict.fromkeys(TERMS, 0.1),
        held_out=HeldOut(steps=9, median=0.1, p90=0.2),
    )  # fmt: skip
    show(Report(found, (held_out,)))
    assert ("Not reliable" not in capsys.readouterr().out) == quiet
