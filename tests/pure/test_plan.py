"""``infergc plan`` through the command: what fits, what is advised, what is refused."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infergc.cli import main
from infergc.cli.serve import serve
from infergc.planner.ask import question
from infergc.sim.calibration import TERMS, Calibration, HeldOut
from infergc.sim.catalog import geometry_named

# 16 layers x 2 x 512 x 2 bytes a token: 2,048 tokens in the pool.
SMALL = ("--model", "llama-3.2-1b", "--kv-cache-memory", "64MiB", "--device", "l4")
LENGTHS = ("--input", "160", "--output", "64")
CHAT = "chat:requests=200,seed=1,context=512,rate=20,answer=20"
FIT = 2048 // 224  # pages of 16 tokens: each request takes 14 whole ones


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def plan(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "plan.json"
    result = run(*arguments, "--json", file)
    assert result.exit_code == 0, result.stderr
    found = json.loads(file.read_text())
    assert found["command"] in result.stdout
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return plan(tmp_path_factory.mktemp("plan"), *SMALL, *LENGTHS, "--ttft", "500ms", "--tpot", "20ms")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return plan(tmp_path_factory.mktemp("plan"), *SMALL, "--trace", CHAT)


def case(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["what_if"] if one["name"] == name)


def advice(found: dict[str, Any], technique: str) -> dict[str, Any]:
    return next(one for one in found["advice"] if technique in one["technique"])


def test_requests_of_one_length_fit_as_often_as_their_pages(small: dict[str, Any]) -> None:
    assert small["pool_tokens"] == 2048
    assert small["concurrency"] == small["certain_concurrency"] == FIT
    assert small["flat_out"]["preempted"] <= small["max_preempted"] == 0.01
    assert case(small, "half_pool")["clients"] == FIT // 2
    assert case(small, "double_pool")["clients"] == 2 * 2048 // 224


def test_flags_are_those_of_serve_and_set_what_was_simulated(small: dict[str, Any]) -> None:
    program, command, model, *flags = shlex.split(small["command"])
    assert (program, command, model) == ("infergc", "serve", "MODEL_DIR")
    settings = serve.make_context("serve", [model, *flags]).params
    assert settings["kv_cache_memory"] == "64MiB"
    assert settings["max_num_batched_tokens"] == 8192
    assert settings["max_num_seqs"] == small["within_targets"]["outcome"]["most_running"] <= FIT


def test_targets_hold_where_it_says_so(small: dict[str, Any]) -> None:
    within = small["within_targets"]
    assert 0 < within["rate"] <= small["flat_out"]["rate"]
    assert within["outcome"]["ttft"]["p90"] <= small["targets"]["ttft"] == 0.5
    assert within["outcome"]["tpot"]["p90"] <= small["targets"]["tpot"] == 0.02


def test_stricter_targets_allow_less_and_impossible_ones_nothing(small: dict[str, Any], tmp_path: Path) -> None:
    result = run(*SMALL, *LENGTHS, "--tpot", "1ms", "--json", tmp_path / "none.json")
    assert "no rate: one request alone has a TPOT of" in result.stdout
    alone = json.loads((tmp_path / "none.json").read_text())["within_targets"]
    assert (alone["rate"], alone["missed"]) == (0.0, ["tpot"])
    strict = (alone["outcome"]["tpot"]["p90"] + small["within_targets"]["outcome"]["tpot"]["p90"]) / 2
    allowed = plan(tmp_path, *SMALL, *LENGTHS, "--tpot", f"{strict * 1000:.4f}ms")["within_targets"]
    assert 0 < allowed["rate"] < small["within_targets"]["rate"]


def test_the_tree_has_each_branch_and_flags_only_for_what_there_is(small: dict[str, Any], chat: dict[str, Any]) -> None:
    for found in (small, chat):
        assert len(found["advice"]) == 10
        for one in found["advice"]:
            assert bool(one["flag"]) == (one["verdict"] == "on")
            assert one["offered"] or not one["flag"]
    missing = {one["technique"] for one in small["advice"] if not one["offered"]}
    assert {"quantised KV", "offload to host memory", "persistence of prefixes", "constrained caches"} <= missing


def test_what_is_not_there_is_named_as_such() -> None:
    out = " ".join(run(*SMALL, *LENGTHS).stdout.split())
    assert "would help quantised KV, where KV storage is the limit: 8 bits: 18 at a time instead of 9" in out
    assert "Not in this version" in out
    assert "--kv-cache-dtype" not in out


def test_a_cap_stands_where_more_would_be_preempted(small: dict[str, Any]) -> None:
    assert case(small, "crowd")["outcome"]["preempted"] > 0.01
    assert advice(small, "a cap")["flag"] == f"--max-num-seqs {FIT}"


def test_sharing_is_worth_what_the_simulator_says(chat: dict[str, Any]) -> None:
    without = case(chat, "no_prefix_cache")["outcome"]
    assert without["hits"] == 0
    assert chat["flat_out"]["hits"] > 0.1
    assert chat["flat_out"]["rate"] > without["rate"]
    assert advice(chat, "sharing by prefix")["verdict"] == "on"
    assert "--enable-prefix-caching" in chat["command"]
    assert chat["own_rate"] > 0


def test_without_sharing_nothing_is_said_of_it(small: dict[str, Any]) -> None:
    assert {one["name"] for one in small["what_if"]}.isdisjoint({"no_prefix_cache", "large_cache", "lru"})
    assert advice(small, "sharing by prefix")["verdict"] == "does not apply"


@pytest.mark.parametrize(
    ("lengths", "memory", "device", "resource"),
    [(("1500", "2"), "2GiB", "l4", "compute"), (("100", "60"), "16MiB", "h200", "KV storage")],
)
def test_the_bottleneck_is_what_gives_most_when_doubled(
    lengths: tuple[str, str], memory: str, device: str, resource: str, tmp_path: Path
) -> None:
    load = ("--input", lengths[0], "--output", lengths[1])
    found = plan(tmp_path, "--model", "llama-3.2-1b", "--kv-cache-memory", memory, "--device", device, *load)
    assert found["bottleneck"] == resource == max(found["gains_when_doubled"], key=found["gains_when_doubled"].get)


def test_long_texts_are_tried_with_a_bound(tmp_path: Path) -> None:
    load = ("--input", "6k", "--output", "20")
    found = plan(tmp_path, "--model", "llama-3.2-1b", "--kv-cache-memory", "800MiB", "--device", "l4", *load)
    assert case(found, "bounded")["clients"] > found["concurrency"]
    assert advice(found, "eviction within a text")["verdict"] == "would help"


def test_the_same_question_has_the_same_answer(small: dict[str, Any], tmp_path: Path) -> None:
    assert plan(tmp_path, *SMALL, *LENGTHS, "--ttft", "0.5s", "--tpot", "20ms") == small


def test_a_calibrated_machine_is_sped_up_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "here.json"
    calibration = Calibration(
        model=geometry_named("llama-3.2-1b"), digest="x", backend="cpu", threads=2, page_tokens=16, machine="this one",
        software="0", date="2026-11-21", terms=dict.fromkeys(TERMS, 1e-5),
        held_out=HeldOut(steps=1, median=0.1, p90=0.1),
    )  # fmt: skip
    file.write_text(calibration.model_dump_json())
    found = plan(tmp_path, *SMALL[:4], "--device", str(file), *LENGTHS)
    assert found["concurrency"] == FIT
    assert found["gains_when_doubled"]["speed of the machine"] == pytest.approx(1.0, rel=0.01)
    assert found["bottleneck"] == "speed of the machine"
    assert "--max-num-batched-tokens 512" in found["command"]
    missing = run(*SMALL[:2], "--device", str(file), *LENGTHS)
    assert "--memory: is required with a calibration" in missing.stderr


def test_memory_falls_to_the_device_and_the_device_to_memory() -> None:
    lengths = {"model": "llama-3-8b", "input_len": 6000, "output_len": 2000}
    of_device = question(**lengths, device="rtx-4090").memory
    assert of_device.total == 24 * 10**9
    assert of_device.kv == pytest.approx(0.9 * 24e9 - of_device.weights, rel=1e-3)
    assert question(**lengths, memory=80 * 10**9).machine.name == "a100-80g"


MODEL = ("--model", "llama-3-8b")
REFUSED = [
    (("--input", "2k"), "Missing option '--model'"),
    ((*MODEL, "--memory", "24GiB", "--input", "2k"), "--output: is required"),
    ((*MODEL, "--memory", "24GiB", "--output", "2k"), "--input: is required"),
    ((*MODEL, *LENGTHS), "--memory: is required unless --device"),
    (
        (*MODEL, *LENGTHS, "--memory", "8GiB"),
        "--memory: 8.0 GiB leaves nothing for KV: the weights of llama-3-8b take 15.",
    ),
    ((*MODEL, *LENGTHS, "--memory", "1GiB", "--kv-cache-memory", "1GiB"), "--memory: give either --memory"),
    ((*MODEL, *LENGTHS, "--memory", "40GiB", "--device", "l4"), "--memory: 40.0 GiB are more than l4 has"),
    ((*MODEL, *LENGTHS, "--memory", "900GiB"), "--memory: 900.0 GiB is more than any listed device has"),
    ((*MODEL, *LENGTHS, "--memory", "lots"), "is not a size in bytes; write for example"),
    ((*MODEL, "--memory", "24GiB", "--input", "8k", "--output", "1k"), "are over the context of llama-3-8b, 8192 tok"),
    ((*MODEL, "--memory", "24GiB", "--input", "2.5", "--output", "1k"), "is not a whole number; write for example"),
    ((*MODEL, "--memory", "24GiB", "--input", "0", "--output", "1k"), "0 is not allowed; it must be more than 0"),
    ((*MODEL, *LENGTHS, "--memory", "24GiB", "--ttft", "1"), "is not a duration; write for example 50ms"),
    (
        (*MODEL, *LENGTHS, "--kv-cache-memory", "1MiB"),
        "--kv-cache-memory: 1.0 MiB are left for KV, and the longest req",
    ),
    (("--model", "llama3-8b", "--memory", "24GiB", *LENGTHS), "did you mean llama-3-8b"),
    ((*MODEL, *LENGTHS, "--device", "a100"), "--device: a100 is not known; did you mean a10"),
    ((*MODEL, "--memory", "24GiB", "--trace", "/nowhere"), "--trace: there is no file /nowhere, nor such a workload"),
    ((*MODEL, "--memory", "24GiB", "--trace", "chat:users=3"), '"users" is no knob of chat'),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_cannot_be_planned_is_refused_by_name(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_a_trace_without_its_longest_requests_says_so(tmp_path: Path) -> None:
    rows = [{"timestamp": 100 * at, "input_length": 300, "output_length": 8} for at in range(40)]
    rows.append({"timestamp": 5000, "input_length": 200_000, "output_length": 8})
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(map(json.dumps, rows)))
    found = plan(tmp_path, *SMALL, "--trace", str(trace), "--input", "5")
    assert "without 1 of over 131,072 tokens (--input and --output are not used" in found["load"]
    assert found["flat_out"]["requests"] == 40
    trace.write_text(json.dumps(rows[-1]))
    assert "--trace: no request of it has at most 131,072 tokens" in run(*SMALL, "--trace", str(trace)).stderr
    trace.write_text('{"timestamp": 0, "input_length": 0, "output_length": 8}')
    assert "line 1: " in run(*SMALL, "--trace", str(trace)).stderr
