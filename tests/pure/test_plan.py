"""``infergc plan`` through the command: what fits, what is advised, what is refused."""

import json
import re
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
from samples.lengths import at_length

# 16 layers x 2 x 512 x 2 bytes a token: 2,048 tokens in the pool.
SMALL = ("--model", "llama-3.2-1b", "--kv-cache-memory", "64MiB", "--device", "l4")
LENGTHS = ("--input", "192", "--output", "32")
CHAT = at_length(
    "chat:requests=100,seed=1,context=800,rate=20,answer=10", "chat:requests=200,seed=1,context=512,rate=20,answer=20"
)
SHORT = (*SMALL, "--input", "200", "--output", "1", "--max-num-batched-tokens", "256")
FIT = 2048 // 224  # pages of 16 tokens: each request takes 14 whole ones


FLAGS = {flag for parameter in serve.params for flag in parameter.opts}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def plan(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "plan.json"
    result = run(*arguments, "--json", file)
    assert result.exit_code == 0, result.stderr
    found = json.loads(file.read_text())
    assert found["command"] in result.stdout
    return {**found, "stdout": " ".join(result.stdout.replace("│", " ").split())}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return plan(tmp_path_factory.mktemp("plan"), *SMALL, *LENGTHS, "--ttft", "500ms", "--tpot", "20ms")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Answers of one token: prompts are computed one after the other, and are over at once."""
    return plan(tmp_path_factory.mktemp("plan"), *SHORT)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return plan(tmp_path_factory.mktemp("plan"), *SMALL, "--trace", CHAT)


def case(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["what_if"] if one["name"] == name)


def advice(found: dict[str, Any], technique: str) -> dict[str, Any]:
    return next(one for one in found["advice"] if technique in one["technique"])


def test_requests_of_one_length_fit_as_often_as_their_pages(small: dict[str, Any]) -> None:
    assert small["pool_tokens"] == 2048
    assert small["fit"] == small["certain"] == small["run_at_once"] == FIT
    assert "held back by" not in small["stdout"]
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


def test_what_fits_is_what_memory_holds_however_short_answers_are(short: dict[str, Any]) -> None:
    """It was once what the speed of prompts let run at once: fewer than "for certain"."""
    assert short["fit"] == short["certain"] == 2048 // 208
    assert 0 < short["run_at_once"] < short["fit"]
    assert short["flat_out"]["most_running"] == short["run_at_once"]
    assert f"requests that fit in memory {short['fit']} at a time" in short["stdout"]
    assert "held back by the speed of prompts, not memory" in short["stdout"]


def test_more_memory_is_no_help_where_memory_is_not_the_limit(short: dict[str, Any]) -> None:
    assert short["bottleneck"] != "KV storage"
    assert advice(short, "quantised KV")["verdict"] == "little gain"
    assert "(+0%)" in advice(short, "quantised KV")["finding"]
    assert not [one for one in short["advice"] if one["verdict"] in ("on", "would help")]


def test_what_is_advised_has_a_figure_and_flags_that_exist(
    small: dict[str, Any], chat: dict[str, Any], long: dict[str, Any]
) -> None:
    for one in (*small["advice"], *chat["advice"], *long["advice"]):
        if one["verdict"] in ("on", "would help", "little gain"):
            assert re.search(r"requests/s instead of [0-9.e+]+ \([+-][0-9]+%\)", one["finding"]), one
        assert one["flag"].split()[:1] in ([], *([flag] for flag in FLAGS))
        if one["flag"]:
            assert one["flag"] in (small["command"] + chat["command"] + long["command"])


def test_requests_that_none_could_serve_in_time_are_said(tmp_path: Path) -> None:
    found = plan(tmp_path, *SMALL, "--input", "1000", "--output", "5", "--tpot", "1ms")
    assert "no rate: one request alone has a TPOT of" in found["stdout"]
    assert (found["within_targets"]["rate"], found["within_targets"]["missed"]) == (0.0, ["tpot"])


def test_the_tree_has_each_branch_and_flags_only_for_what_there_is(small: dict[str, Any], chat: dict[str, Any]) -> None:
    for found in (small, chat):
        assert len(found["advice"]) == 10
        for one in found["advice"]:
            assert bool(one["flag"]) == (one["verdict"] == "on")
            assert one["offered"] or not one["flag"]
    missing = {one["technique"] for one in small["advice"] if not one["offered"]}
    assert {"quantised KV", "constrained caches"} <= missing
    assert not {"offload to host memory", "persistence of prefixes", "asynchronous restore"} & missing


def test_what_is_not_there_is_named_as_such(small: dict[str, Any]) -> None:
    said = "would help quantised KV, where storing or reading KV is the limit: 8 bits instead of 16 (bfloat16): 18 run"
    assert said in small["stdout"]
    assert "the load has lengths alone. Not in this version" in small["stdout"]
    assert "--kv-cache-dtype" not in small["stdout"]


def test_eight_bits_are_a_quarter_of_float32(tmp_path: Path) -> None:
    lengths = ("--input", "380", "--output", "4")
    found = plan(tmp_path, *SMALL, *lengths, "--dtype", "float32")
    assert found["run_at_once"] == 1024 // 384
    assert case(found, "kv_8_bits")["clients"] == 4096 // 384
    assert "8 bits instead of 32 (float32)" in advice(found, "quantised KV")["finding"]


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


def test_the_bottleneck_is_what_gives_most_when_doubled(small: dict[str, Any], tmp_path: Path) -> None:
    lengths = ("--input", "1500", "--output", "2")
    slow = plan(tmp_path, "--model", "llama-3.2-1b", "--kv-cache-memory", "2GiB", "--device", "l4", *lengths)
    for found, resource in ((small, "KV storage"), (slow, "compute")):
        assert found["bottleneck"] == resource == max(found["gains_when_doubled"], key=found["gains_when_doubled"].get)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plan")
    count = at_length(80, 160)
    rows = [
        {"timestamp": 100 * at, "input_length": 8000 if at % 4 else 1000, "output_length": 8} for at in range(count)
    ]
    (folder / "trace.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ("--model", "llama-3.2-1b", "--kv-cache-memory", "800MiB", "--device", "l4")
    return plan(folder, *arguments, "--trace", str(folder / "trace.jsonl"))


def test_long_texts_are_tried_with_a_bound(long: dict[str, Any]) -> None:
    assert case(long, "bounded")["clients"] > long["run_at_once"]
    bounded, base = case(long, "bounded")["outcome"]["rate"], long["flat_out"]["rate"]
    assert (advice(long, "eviction within a text")["verdict"] == "would help") == (bounded >= 1.05 * base)


def test_predictable_batches_cost_what_running_only_those_costs(long: dict[str, Any]) -> None:
    sure = case(long, "certain")
    assert sure["clients"] == long["certain"] < long["run_at_once"] <= long["fit"]
    assert f"only {long['certain']} never preempt each other" in advice(long, "constrained caches")["finding"]


def test_the_same_question_has_the_same_answer(short: dict[str, Any], tmp_path: Path) -> None:
    assert plan(tmp_path, *SHORT) == short


def test_a_calibrated_machine_is_sped_up_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "here.json"
    calibration = Calibration(
        model=geometry_named("llama-3.2-1b"), digest="x", backend="cpu", threads=2, page_tokens=16, machine="this one",
        software="0", date="2026-11-21", terms=dict.fromkeys(TERMS, 1e-5),
        held_out=HeldOut(steps=1, median=0.1, p90=0.1),
    )  # fmt: skip
    file.write_text(calibration.model_dump_json())
    found = plan(tmp_path, *SMALL[:4], "--device", str(file), "--input", "900", "--output", "10")
    assert found["run_at_once"] == 2
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
    (
        (*MODEL, *LENGTHS, "--memory", "900GiB"),
        "--memory: 900.0 GiB for weights and KV is more than any listed",
    ),
    ((*MODEL, *LENGTHS, "--memory", "lots"), "is not a size in bytes; write for example"),
    ((*MODEL, "--memory", "24GiB", "--input", "8k", "--output", "1k"), "are over the context of llama-3-8b, 8192 tok"),
    ((*MODEL, "--memory", "24GiB", "--input", "2.5", "--output", "1k"), "is not a whole number; write for example"),
    ((*MODEL, "--memory", "24GiB", "--input", "0", "--output", "1k"), '"0" is not allowed; it must be more than 0'),
    ((*MODEL, *LENGTHS, "--memory", "24GiB", "--ttft", "1"), "is not a duration; write for example 50ms"),
    (
        (*MODEL, *LENGTHS, "--kv-cache-memory", "4MiB"),
        "--kv-cache-memory: 4.0 MiB for KV are too little: the longest request takes 28.0 MiB; give 24.0 MiB more",
    ),
    (("--model", "llama3-8b", "--memory", "24GiB", *LENGTHS), "did you mean llama-3-8b"),
    ((*MODEL, *LENGTHS, "--device", "a100"), "--device: a100 is not known; did you mean a10"),
    ((*MODEL, "--memory", "24GiB", "--trace", "/nowhere"), "--trace: there is no file /nowhere, nor such a workload"),
    ((*MODEL, "--memory", "24GiB", "--trace", "chat:users=3"), '"users" is no knob of chat'),
    ((*MODEL, "--memory", "24GiB", "--trace", ""), '--trace: "" is not allowed; write a name or a file'),
    (("--model", "", "--memory", "24GiB", *LENGTHS), '--model: "" is not allowed'),
    ((*MODEL, *LENGTHS, "--memory", "9" * 400), "'--memory': \"9999"),
    ((*MODEL, *LENGTHS, "--memory", "9" * 40), "is not allowed; it must be more than 0 and at most 1024TiB"),
    ((*MODEL, *LENGTHS, "--memory", "24GiB", "--ttft", "9" * 400 + "s"), "it must be more than 0 and at most 10000min"),
    ((*MODEL, "--memory", "24GiB", "--input", "9" * 5000, "--output", "1"), "and at most 16Mi"),
    ((*MODEL, *LENGTHS, "--kv-cache-memory", "100TiB"), "--kv-cache-memory: 100.0 TiB for weights and KV is more than"),
    ((*MODEL, *LENGTHS, "--kv-cache-memory", "30GiB", "--device", "l4"), "--kv-cache-memory: 30.0 GiB and the weights"),
    (
        (*MODEL, "--memory", "24GiB", "--input", "2k", "--output", "256", "--max-num-batched-tokens", "1"),
        "--max-num-batched-tokens: 1 is too few to simulate requests of 2,256 tokens on the average; it must be ≥ 18",
    ),
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
    assert "without 1 of over 2,048 tokens (--input and --output are not used" in found["load"]
    assert found["flat_out"]["requests"] == 40
    trace.write_text(json.dumps(rows[-1]))
    assert "--trace: no request of it has at most 2,048 tokens" in run(*SMALL, "--trace", str(trace)).stderr
    trace.write_text('{"timestamp": 0, "input_length": 0, "output_length": 8}')
    assert "line 1: " in run(*SMALL, "--trace", str(trace)).stderr


def test_a_load_too_short_to_fill_the_machine_is_no_ground_for_advice(tmp_path: Path) -> None:
    """One request was once "held back by the speed of prompts", and to be served with --max-num-seqs 1."""
    (tmp_path / "one.jsonl").write_text('{"timestamp": 0, "input_length": 300, "output_length": 8}')
    found = plan(tmp_path, *SMALL, "--trace", str(tmp_path / "one.jsonl"))
    assert (found["run_at_once"], found["load_is_short"], found["what_if"]) == (1, True, [])
    assert found["fit"] == found["certain"] == 2048 // 320
    assert f"--max-num-seqs {found['fit']} " in found["command"] + " "
    assert found["bottleneck"].startswith("cannot be told")
    assert set(found["gains_when_doubled"].values()) == {None}
    assert "held back" not in found["stdout"]
    assert "1 request is too few to fill so many places again and again" in found["stdout"]
    assert "flat out, with 1 client " in found["stdout"]


def test_of_a_short_load_sharing_cannot_be_told(tmp_path: Path) -> None:
    """All turns at once found nothing, and sharing was said to give little."""
    found = plan(tmp_path, *SMALL[:2], "--kv-cache-memory", "1GiB", "--device", "l4", "--trace", "chat:requests=20")
    assert found["load_is_short"]
    assert found["flat_out"]["hits"] > 0.2
    untold = {one["technique"] for one in found["advice"] if one["verdict"] == "cannot be told"}
    assert {"sharing by prefix", "quantised KV", "offload to host memory", "persistence of prefixes"} <= untold
    assert not [one for one in found["advice"] if one["verdict"] in ("on", "would help", "little gain")]
    assert "or more: the load has no more to try" in found["stdout"]


def test_more_memory_never_hurts(chat: dict[str, Any], long: dict[str, Any]) -> None:
    """More clients at once were once compared over the time that filling and emptying takes: 11 % "less"."""
    for found in (chat, long):
        assert found["flat_out"]["steady"]
        told = {name: gain for name, gain in found["gains_when_doubled"].items() if gain is not None}
        assert "KV storage" in told
        assert min(told.values()) > -0.01, told
        for one in found["what_if"]:
            assert one["outcome"]["steady"], one["name"]
            assert one["outcome"]["requests"] == found["flat_out"]["requests"], one["name"]


def test_off_a_terminal_it_says_that_it_works() -> None:
    result = run(*SMALL, *LENGTHS)
    assert result.stderr.startswith("simulating: some 20 to 60 runs, of up to half a minute each\n5 runs over\n")


def test_beam_searches_have_no_time_for_a_token(tmp_path: Path) -> None:
    """Their texts come whole: each token after the first once took "0 µs"."""
    found = plan(tmp_path, *SMALL, "--trace", "beams:requests=6,prompt=40,output=20,spread=0,width=2")
    assert found["flat_out"]["tpot"] is None
    assert "each token after the first none: outputs have one token, or come whole" in found["stdout"]
    assert found["flat_out"]["most_running"] == 2 * found["run_at_once"]
