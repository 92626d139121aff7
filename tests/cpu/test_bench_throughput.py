"""``infergc bench throughput`` on a small real model, and what measures the machine for it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from cpu.served import make_served
from infergc import LLM, SamplingParams
from infergc.bench.workload import Load, digest
from infergc.cli.main import main
from infergc.worker import rates
from infergc.worker.rates import measure_rates, ways

SETTINGS = ("--dtype", "float32", "--kv-cache-memory", "16MiB", "--threads", "1")
HOUR = 3600.0  # seconds
LOAD = ("--requests", "3", "--input-len", "20", "--output-len", "4", "--rounds", "2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure briefly: these tests look at what is measured, not at how well."""
    monkeypatch.setattr(rates, "_SECONDS", 0.0)
    monkeypatch.setattr(rates, "_COLD_BYTES", 1 << 16)
    monkeypatch.setattr(rates, "_READ_BYTES", 1 << 20)


def bench(*arguments: object) -> tuple[int, str]:
    arguments = ("bench", "throughput", *arguments, *SETTINGS)
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def reliable_run(model: Path, file: Path) -> tuple[str, dict[str, Any]]:
    """A run whose bound is reliable: the machine may be busy for a while, but not always."""
    for _ in range(8):
        code, output = bench("--model", model, *LOAD, "--json", file)
        assert code == 0, output
        figures = json.loads(file.read_text())
        if figures["bound"]["reliable"]:
            return output, figures
    pytest.fail(f"never was the bound below what it bounds: {figures}")


def test_it_prints_the_bound_and_writes_the_figures(model: Path, tmp_path: Path) -> None:
    output, figures = reliable_run(model, tmp_path / "figures.json")
    assert "3 requests, 20 in, 4 out" in output
    assert "reliable" not in output
    assert "times the matrix products alone" in " ".join(output.split())
    assert len(figures["rounds"]) == 2
    assert figures["output_speed"] > 0
    assert figures["peak_rss_bytes"] > 10 << 20
    seconds = min(one["seconds"] for one in figures["rounds"])
    assert figures["output_speed"] == pytest.approx(3 * 4 / seconds), "of two rounds both are of the faster"
    assert sum(figures["split"].values()) == pytest.approx(seconds)
    assert figures["bound"]["over_products"] > figures["bound"]["over_products_and_attention"] > 1


@pytest.mark.parametrize("busy", [1, 2])
def test_a_bound_that_cannot_be_one_is_measured_again_and_then_told_of(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: int
) -> None:
    """Whatever else runs holds every product alone up by an hour, while the bound is measured so many times."""
    once, read, done = rates._once, rates._read_bandwidth, list[None]()
    monkeypatch.setattr(rates, "_once", lambda products: once(products) + HOUR * (len(done) < busy))
    monkeypatch.setattr(rates, "_read_bandwidth", lambda: done.append(None) or read())
    code, output = bench("--model", model, *LOAD, "--json", tmp_path / "figures.json")
    assert code == 0, output
    found = json.loads((tmp_path / "figures.json").read_text())["bound"]
    assert len(done) == 2
    if busy == 1:
        assert found["layers"] + found["head"] < HOUR, "the second measurement counts"
    else:
        assert (found["reliable"], found["layers"] > HOUR > found["products_within_a_round"]) == (False, True)
        assert "bound is not reliable: the machine was busy while it was measured, twice" in " ".join(output.split())


def test_outputs_are_those_of_the_offline_api(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    code, output = bench("--model", model, *LOAD, "--no-bound", "--warmup", 0, "--json", file)
    assert code == 0, output
    figures = json.loads(file.read_text())
    assert "bound" not in figures
    with LLM(model, dtype="float32", kv_cache_memory="16MiB", threads=1) as llm:
        for number, one in enumerate(figures["rounds"]):
            prompts = Load(3, 20, 4).prompts(number, llm.ready.vocab_size)
            params = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
            results = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
            assert one["digest"] == digest([result.outputs[0].token_ids for result in results])


def test_a_single_stream_is_held_against_reading_the_weights(model: Path) -> None:
    code, output = bench("--model", model, "--requests", 1, "--input-len", 4, "--output-len", 4, "--rounds", 1)
    assert code == 0, output
    assert "1 request, 4 in, 4 out" in output
    assert "Decode at batch 1" in output


def test_a_single_token_has_none_before_it_and_no_decode(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    sizes = ("--requests", 1, "--input-len", 4, "--output-len", 1, "--rounds", 1)
    code, output = bench("--model", model, *sizes, "--json", file)
    assert code == 0, output
    assert "Decode at batch 1" not in output
    figures = json.loads(file.read_text())
    assert (figures["decode_speed"], figures["rounds"][0]["between_tokens"]) == (None, None)


def test_what_cannot_run_is_refused_by_flag(model: Path) -> None:
    code, output = bench("--model", model, "--input-len", 100000)
    assert (code, "--input-len and --output-len: 100000 + 128 tokens" in output) == (2, True), output
    code, output = bench("--model", model, "--json", "/nowhere/x.json")
    assert (code, "Error: --json: cannot write /nowhere/x.json: No such" in output) == (2, True), output
    code, output = bench("--model", model, "--requests", 0)
    assert (code, "--requests" in output) == (2, True), output
    code, output = bench("--model", model / "none")
    assert (code, "--model" in output) == (2, True), output


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_every_way_computes_the_product(rows: int, dtype: torch.dtype) -> None:
    weight_NK, x_TK = torch.randn(48, 32).to(dtype), torch.randn(rows, 32).to(dtype)
    expected = x_TK.float() @ weight_NK.float().T
    for way in ways(dtype, 1).values():
        torch.testing.assert_close(way(weight_NK, x_TK)().float(), expected, rtol=2e-2, atol=5e-2)


def test_rates_are_of_every_size_asked_for(model: Path) -> None:
    found = measure_rates(model, "float32", 1, [1, 5], [2])
    assert set(found.layers) == {1, 5}
    assert set(found.head) == {2}
    assert min(*found.layers.values(), *found.head.values(), found.matrix_flops, found.read_bytes) > 0
    assert len(found.packing) == 4 * 2 + 1 or len(found.packing) < 9  # shapes that are alike are one
