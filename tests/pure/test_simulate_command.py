"""``infergc simulate`` as a user runs it: real files, real runs, wrong input."""

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infergc.cli.main import main
from infergc.cli.simulate.options import how_long
from infergc.sim.calibration import TERMS, Calibration, HeldOut
from infergc.sim.hf_geometry import read_geometry
from infergc.sim.requests import TraceRequest

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
    return told(path, *arguments)[0]


def told(path: Path, *arguments: str | Path) -> tuple[list[dict[str, Any]], str]:
    """What it writes of each run, and what it prints."""
    result = simulate(*arguments, "--json", path)
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text())["runs"], result.output


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


def test_belady_bounds_every_policy_where_prompts_come_one_by_one(tmp_path: Path) -> None:
    """Some requests are refused: they are longer than the pool."""
    rows = [
        {"timestamp": at, "input_length": 512 * size, "output_length": 1, "hash_ids": [*range(first, first + size)]}
        for at, (first, size) in enumerate([(0, 2), (10, 3), (20, 4), (50, 40), (30, 5), (0, 4), (10, 3), (40, 6)] * 6)
    ]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(map(json.dumps, rows)))
    names = ["generational", "lru", "lfu", "slru", "arc", "s3-fifo", "tinylfu", "belady"]
    found = runs(
        tmp_path / "a.json", trace, "--replay", "cache", "--policy", ",".join(names), "--capacity", "7168"
    )  # fmt: skip
    rates = {run["policy"]: run["prefix_hit_rate"] for run in found}
    assert list(rates) == names
    assert all(run["refused"] == 6 for run in found)
    assert max(rates.values()) == rates["belady"] > rates["lru"]


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


def test_no_figure_is_cut_short_however_wide_the_table(tmp_path: Path) -> None:
    """A small model on a large device was printed with 23,433,9… tokens."""
    model = tmp_path / "config.json"
    shape = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
    kind = {"architectures": ["LlamaForCausalLM"], "vocab_size": 99, "max_position_embeddings": 512}
    model.write_text(json.dumps({**shape, **kind}))
    output = simulate("beams:requests=2", "--model", model, "--capacity", "123456000").output
    assert output.count("123,456,000") == 2
    assert "…" not in output


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
    path.write_text("\n".join(json.dumps({"timestamp": 1, "input_length": "two"}) for _ in range(3)))
    result = simulate(path, "--skip-bad-rows")
    assert result.exit_code == 2
    assert "perhaps it is of no known format; known are: JSON rows with timestamp" in result.output
    assert "--skip-bad-rows leaves" not in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl"),
        (["chat:requests=0"], "requests"),
        (["chatt"], "system-prompts"),
        (["chat:requests=3", "--model", "llama-3-8"], "llama-3-8b"),
        (["chat:requests=3", "--device", "a100-80"], "a100-80g"),
        (["chat:requests=3", "--policy", "lru,mru"], "'mru' is no retention policy; there are generational, lru, lfu"),
        (["chat:requests=3", "--policy", "lru,belady"], "--policy: belady has to know which prompts will come"),
        (["chat:requests=3", "--capacity", "lots"], "--capacity"),
        (["chat:requests=3", "--capacity", "1"], "--capacity"),
        (["chat:requests=3", "--capacity", "9" * 20], "--capacity: so large a pool is not simulated"),
        (["chat:requests=3", "--capacity", "9" * 5000], "--capacity"),
        (["chat:requests=3", "--capacity", "1000000TiB"], "at most 1,073,741,824 tokens are, 128.0 TiB of llama-3-8b"),
        (["chat:requests=3", "--capacity", ""], "--capacity"),
        (["chat:requests=3", "--capacity", "1GiB,,2GiB"], "--capacity"),
        (["chat:requests=3", "--policy", ""], "--policy"),
        (["chat:requests=3", "--policy", "lru", "--policy", ""], "--policy"),
        (["chat:requests=3", "--model", ""], '--model: "" is not known'),
        (["chat:requests=3", "--device", ""], '--device: "" is not known'),
        (["chat:requests=3", "--plot", ""], "--plot"),
        (["chat:requests=3", "--json", ""], "--json"),
        ([""], 'TRACE: there is no file ""'),
        (["chat:requests=3", "--rate", "2"], "--rate: is for recorded traces"),
        (["chat:requests=3", "--block-tokens", "16"], "--block-tokens: is for recorded traces"),
        (["chat:requests=3", "--replay", "cache", "--slower", "2"], "--slower: --replay cache has no times"),
        (["chat:requests=3", "--replay", "cache", "--rate", "2"], "--rate: --replay cache has no times"),
        (["chat:requests=3", "--slower", "1e300"], "--slower"),
        (["chat:requests=3", "--device", "l4", "--model", "llama-3-70b"], "llama-3-70b"),
        (["chat:requests=3", "--rate", "-1"], "--rate"),
        (["chat:requests=3", "--slower", "nan"], "--slower"),
        (["chat:requests=3", "--block-tokens", "0"], "--block-tokens"),
        (["chat:requests=3", "--plot", "memory.xyz"], ".svg"),
        (["chat:requests=3", "--plot", "no/such/folder/memory.png"], "--plot: cannot write"),
        (["chat:requests=3", "--json", "no/such/folder/a.json"], "--json: cannot write"),
        (["chat:requests=3", "--max-num-seqs", "0"], "--max-num-seqs"),
        (["chat:requests=3", "--json", "same.png", "--plot", "same.png"], "--plot: same.png is the file of --json too"),
        (["chat:requests=3", "--capacity", "20k"], "with a unit they are bytes, as 20k is 20,000"),
        ([], "TRACE"),
    ],
)
def test_wrong_input_is_refused_by_name(arguments: list[str], said: str) -> None:
    result = simulate(*arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_request_that_no_pool_holds_is_said_and_the_others_run(trace: Path) -> None:
    result = simulate(trace, "beams:requests=2", "--capacity", "960", "--policy", "lru,generational")
    assert result.exit_code == 0
    said = "refused: 12 of 12 requests of trace.jsonl.gz in 960 tokens: prompt: N tokens; 1 to 959"
    assert result.output.count("refused: 12") == 1
    assert said in result.output


def test_reasons_of_refusals_are_in_the_figures(tmp_path: Path) -> None:
    lengths = tmp_path / "lengths.csv"
    lengths.write_text("num_prefill_tokens,num_decode_tokens\n400,5\n500,5\n400,5\n10,5\n300,50\n")
    (run,) = runs(tmp_path / "a.json", lengths, "--capacity", "320")
    assert run["refusals"] == {"prompt: N tokens; 1 to 319 are allowed": 3}
    assert (run["requests"], run["refused"], run["cut"], run["finished"]) == (5, 3, 1, 1)
    output = simulate(lengths, "--capacity", "320").output
    assert "cut: 1 of 5 requests of lengths.csv in 320 tokens" in output
    assert "lengths.csv: 5 requests, 1 finished" in output
    both = simulate(lengths, "--capacity", "320,368").output
    assert "lengths.csv: 5 requests, 1 to 2 finished" in both


def test_options_that_a_trace_has_no_use_for_are_refused(trace: Path, tmp_path: Path) -> None:
    lengths = tmp_path / "lengths.csv"
    lengths.write_text("num_prefill_tokens,num_decode_tokens\n40,5\n50,5\n")
    assert simulate(lengths, "--rate", "2").exit_code == 0
    assert simulate(trace, "--block-tokens", "512").exit_code == 0
    for file, flag in ((trace, "--rate"), (lengths, "--block-tokens")):
        result = simulate(file, flag, "2")
        assert result.exit_code == 2
        assert f"{flag}: is for traces with" in result.output


def test_times_that_are_not_there_are_neither_slowed_nor_drawn(trace: Path, tmp_path: Path) -> None:
    lengths = tmp_path / "lengths.csv"
    lengths.write_text("num_prefill_tokens,num_decode_tokens\n40,5\n50,5\n")
    for arguments, said in (
        (
            (lengths, "--slower", "2"),
            "--slower: the requests of lengths.csv all come at once: there is nothing to slow",
        ),
        ((trace, "--trace-seed", "1"), "--trace-seed: draws the times that --rate asks for; give --rate too"),
        ((lengths, "--trace-seed", "1"), "--trace-seed: draws the times that --rate asks for; give --rate too"),
    ):
        result = simulate(*arguments)
        assert result.exit_code == 2
        assert said in result.output
    assert simulate(lengths, "--rate", "2", "--trace-seed", "1", "--slower", "2").exit_code == 0
    assert simulate(lengths, "--slower", "0").exit_code == 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_calibration_of_any_dtype_can_be_used(dtype: str, tmp_path: Path) -> None:
    model = tmp_path / "config.json"
    shape = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
    kind = {"architectures": ["LlamaForCausalLM"], "vocab_size": 99, "max_position_embeddings": 512}
    model.write_text(json.dumps({**shape, **kind, "dtype": "float16"}))
    measured = Calibration(
        model=read_geometry(model).run_in(dtype), digest="d", backend="b", threads=1, page_tokens=16, machine="m",
        software="0", date="2026-11-21", terms=dict.fromkeys(TERMS, 1e-6),
        held_out=HeldOut(steps=1, median=0.1, p90=0.1),
    )  # fmt: skip
    device = tmp_path / "cpu.json"
    device.write_text(measured.model_dump_json())
    asked = ("beams:requests=2", "--model", model, "--device", device, "--capacity", "64000")
    (run,) = runs(tmp_path / "a.json", *asked, "--dtype", dtype)
    assert run["kv_bytes"] == 64000 * measured.model.kv_bytes_per_token
    by_itself = simulate(*asked)
    if dtype == "float32":
        assert by_itself.exit_code == 0, "float16 models run in float32 unless told otherwise, as under infergc serve"
    else:
        assert by_itself.exit_code == 2
        assert "(dtype float16 there, float32 here); give --dtype float16" in by_itself.output


def test_where_no_request_runs_the_command_fails() -> None:
    result = simulate("chat:requests=5", "--capacity", "16")
    assert result.exit_code == 1
    assert "no request could run; give a larger --capacity" in result.output


def test_what_is_over_is_written_though_the_rest_is_not(tmp_path: Path) -> None:
    """An interrupt once took all that had been simulated with it; here the second trace cannot be read."""
    file = tmp_path / "a.json"
    result = simulate("chat:requests=3", "nowhere.jsonl", "--json", file)
    assert result.exit_code == 2
    assert [run["trace"] for run in json.loads(file.read_text())["runs"]] == ["chat:requests=3"]


@pytest.mark.parametrize("json_file", [None, "/dev/full"])
def test_nothing_is_lost_where_nobody_reads_the_tables(json_file: str | None, tmp_path: Path) -> None:
    """The table once came first, so that a closed pipe lost the JSON; and a full disk gave a traceback."""
    file = json_file or str(tmp_path / "a.json")
    command = [sys.executable, "-m", "infergc.cli", "simulate", "chat:requests=3", "--json", file]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - as a shell opens it
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr
    if json_file is None:
        assert len(json.loads(Path(file).read_text())["runs"]) == 1


def test_a_workload_that_takes_minutes_is_announced() -> None:
    """Two rows of the longest outputs that a trace may have once ran on and on without a word."""
    assert how_long("t", [TraceRequest(0.0, 1, 1000)] * 4000) == ""
    said = how_long("t", [TraceRequest(0.0, 1, 2**24)] * 2)
    assert said.startswith("t: 33,554,432 tokens of output take minutes to simulate")


def test_the_figures_say_what_was_simulated(tmp_path: Path) -> None:
    (run,) = runs(tmp_path / "a.json", "chat:requests=3", "--slower", "2", "--block-size", "32", "--dtype", "float32")
    assert (run["model"], run["device"], run["slower"]) == ("llama-3-8b", "a100-80g", 2.0)
    assert (run["settings"]["block_size"], run["settings"]["dtype"], run["settings"]["max_num_seqs"]) == (
        32, "float32", 256
    )  # fmt: skip


def test_a_plot_of_the_cache_alone_has_no_seconds(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pictures = {replay: tmp_path / f"{replay}.svg" for replay in ("served", "cache")}
    for replay, picture in pictures.items():
        arguments = ("--replay", replay, "--capacity", "4096", "--plot", picture)
        assert simulate("chat:requests=20", *arguments).exit_code == 0
    assert "<!-- simulated time, s -->" in pictures["served"].read_text()
    assert "<!-- steps: one for each prompt -->" in pictures["cache"].read_text()
    assert "4,096 tokens, 512.0 MiB" in pictures["cache"].read_text()


def test_a_host_tier_is_simulated_and_told(tmp_path: Path) -> None:
    """What it saves of TTFT is more than nothing: prefixes come over the link and are not computed."""
    load = ("chat:requests=80,rate=4", "--capacity", "10000", "--max-num-seqs", "16")
    (without,), plainly = told(tmp_path / "a.json", *load)
    (run,), shown = told(tmp_path / "b.json", *load, "--host-cache-memory", "8GiB", "--preemption", "swap")
    assert without["host"] is None
    assert run["host"]["capacity_tokens"] == 65536
    assert run["host"]["hit_rate"] > 0.02
    assert run["host"]["promoted_tokens"] > 0
    assert run["token_hit_rate"] > without["token_hit_rate"] + 0.02
    assert run["host"]["copied_bytes"] / run["host"]["copy_seconds"] == pytest.approx(24.8e9)
    assert run["ttft"]["mean"] < without["ttft"]["mean"]
    assert run["settings"]["preemption"] == "swap"
    assert "host tokens" in shown
    assert "65,536" in shown
    assert "host tokens" not in plainly
