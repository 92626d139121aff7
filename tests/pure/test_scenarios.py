"""The mission's scenarios: the baselines are fair, the search finds what it should, the command reports."""

import json
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infergc.bench.scenarios.allocators import Allocator, Doubling, Paged, Reserved
from infergc.bench.scenarios.campaign import bars
from infergc.bench.scenarios.first_fit import FirstFit
from infergc.bench.scenarios.outcome import NO_LIMITS, Limits, Outcome
from infergc.bench.scenarios.peer import Peer
from infergc.bench.scenarios.smallest import COARSE, THOROUGH, Care, Search
from infergc.bench.scenarios.systems import (
    BASELINES,
    DOUBLING,
    OURS,
    PAGED,
    TOKEN_BYTES,
    WITHOUT,
    Contiguous,
    Load,
    OnEngine,
)
from infergc.bench.scenarios.workloads import (
    LOADED,
    Sizes,
    Traces,
    behind,
    concurrent,
    long_contexts,
    slowed,
    system_prompt,
    together,
)
from infergc.cli.bench.group import bench
from infergc.cli.bench.scenario_plots import draw
from infergc.cli.bench.scenario_tables import show
from infergc.config import ConfigError
from infergc.llm.progress import progress_bars
from infergc.sim.requests import TraceRequest
from infergc.units import GIB
from samples.scenario_traces import write_traces

PLAIN = Contiguous("plain", "the plain loop over pages", lambda pool, _: Paged(pool))
FEW = Sizes(long=6, many=24, seats=8)
ALONE = OnEngine("alone", "the engine, nothing on", {**PAGED.settings, "pipeline_depth": 1}, "lru")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    return Traces(write_traces(tmp_path_factory.mktemp("traces")))


def quietly(_: int) -> None:
    """Nobody waits."""


def loads(traces: Traces) -> dict[str, Load]:
    return {
        "closed": concurrent(traces, FEW),
        "shared": system_prompt(traces, FEW, 60),
        "open": slowed(long_contexts(traces, FEW), 0.5),
    }


@pytest.mark.parametrize("name", ["closed", "shared", "open"])
def test_over_pages_the_plain_loop_does_as_the_engine_does(name: str, traces: Traces) -> None:
    load = loads(traces)[name]
    ample = PLAIN.run(load, None, NO_LIMITS, quietly)
    assert ample == ALONE.run(load, None, NO_LIMITS, quietly)
    assert ample.finished == len(load.requests)
    assert ample.peak_bytes > GIB
    short = max(ample.peak_bytes * 2 // 3, load.longest * TOKEN_BYTES)
    plain = PLAIN.run(load, short, NO_LIMITS, quietly)
    assert plain == ALONE.run(load, short, NO_LIMITS, quietly)
    assert plain.peak_bytes < ample.peak_bytes


def test_a_short_pool_makes_both_preempt_alike(traces: Traces) -> None:
    requests = [TraceRequest(0.0, 20, 400) for _ in range(8)]
    load = Load(tuple(requests), 8, 64)
    plain = PLAIN.run(load, 2000 * TOKEN_BYTES, NO_LIMITS, quietly)
    assert plain == ALONE.run(load, 2000 * TOKEN_BYTES, NO_LIMITS, quietly)
    assert plain.preempted > 0


def test_planning_ahead_costs_a_baseline_with_pages_almost_nothing(traces: Traces) -> None:
    load = loads(traces)["closed"]
    ahead, plain = (each.run(load, None, NO_LIMITS, quietly) for each in (PAGED, PLAIN))
    assert ahead.throughput == pytest.approx(plain.throughput, rel=0.02)
    assert ahead.peak_bytes == pytest.approx(plain.peak_bytes, rel=0.06)


def test_first_fit_takes_the_first_hole_and_joins_neighbours() -> None:
    space = FirstFit(100)
    first, second, third = space.take(30), space.take(20), space.take(30)
    assert (first, second, third, space.held, space.top) == (0, 30, 50, 80, 80)
    space.give_back(0, 30)
    assert space.take(40) is None, "50 are free, in pieces of 30 and 20"
    assert space.take(10) == 0
    space.give_back(30, 20)
    assert space.take(40) == 10, "20 … 50 was two holes"
    space.give_back(0, 10)
    space.give_back(50, 30)
    space.give_back(10, 40)
    assert (space.held, space.take(100)) == (0, 0)
    assert space.held_at_top == 100


def test_doubling_holds_old_and_new_for_a_moment_and_copies() -> None:
    memory = Doubling(pool=1000, longest=100)
    assert memory.admit(0, known=33, first=33, running=0)
    assert memory.held == 64
    assert memory.grow(0, 64)
    assert (memory.held, memory.copied) == (64, 0)
    assert memory.grow(0, 65)
    assert (memory.held, memory.peak, memory.copied) == (100, 164, 64), "no buffer is larger than the longest text"
    memory.free(0)
    assert memory.held == 0


def test_doubling_tells_a_hole_too_small_from_a_pool_too_full() -> None:
    memory = Doubling(pool=112, longest=80)
    for text, known in enumerate((32, 16, 32, 16)):
        assert memory.admit(text, known, known, text)
    memory.free(1)
    memory.free(3)
    assert not memory.admit(4, 64, 64, 2)
    assert (memory.refused, memory.free_then) == (0, 0), "48 are free"
    memory.free(2)
    memory.admit(5, 16, 16, 1)
    memory.free(0)
    assert not memory.admit(6, 65, 65, 1)
    assert (memory.refused, memory.free_then) == (1, 96)


def test_a_margin_is_kept_only_beside_who_runs() -> None:
    memory = Doubling(pool=100, longest=64, margin=0.5)
    assert memory.admit(0, 60, 60, 0)
    assert not memory.admit(1, 16, 16, 1)


def test_reserved_memory_is_counted_whole() -> None:
    memory = Reserved(pool=100, longest=40)
    assert memory.admit(0, 1, 1, 0)
    assert memory.admit(1, 1, 1, 1)
    assert not memory.admit(2, 1, 1, 2)
    assert memory.grow(0, 40)
    memory.free(0)
    assert (memory.held, memory.peak) == (40, 80)


@pytest.mark.parametrize("threshold", [7, 100, 999, 1000, 12345])
@pytest.mark.parametrize("guess", [5, 100, 1000, 50_000])
@pytest.mark.parametrize("care", [THOROUGH, COARSE])
def test_the_search_ends_closely_above(care: Care, threshold: int, guess: int) -> None:
    ample = Outcome(100, 100, 49.0, 100, threshold, 0, 0)
    asked: list[Limits] = []

    def run(pool: int, limits: Limits) -> Outcome:
        asked.append(limits)
        return replace(ample, whole=pool >= threshold)

    found = Search(run, ample, 5, care).near(guess)
    assert threshold <= found.pool <= (threshold + 1) * care.close
    assert found.runs == len(asked) < 30
    assert set(asked) == {Limits(seconds=50.0, preempted=1.0)}


def test_the_search_looks_below_a_pool_that_fails_by_chance() -> None:
    ample = Outcome(100, 100, 49.0, 100, 1000, 0, 0)
    found = Search(lambda pool, _: replace(ample, whole=pool >= 700 and not 900 <= pool < 950), ample, least=5).near(
        1200
    )
    assert 700 <= found.pool <= 700 * THOROUGH.close
    assert found.outcome.whole


def test_a_pool_that_serves_more_slowly_or_preempts_is_not_enough(traces: Traces) -> None:
    load = loads(traces)["closed"]
    ample = PAGED.run(load, None, NO_LIMITS, quietly)
    for limits in (Limits(seconds=ample.seconds / 2), Limits(preempted=-1)):
        assert not PAGED.run(load, None, limits, quietly).whole
        assert not DOUBLING.run(load, None, limits, quietly).whole
    too_small = 2 * GIB  # for the longest
    assert not PAGED.run(long := Load((TraceRequest(0.0, 20_000, 5),)), too_small, NO_LIMITS, quietly).whole
    assert not DOUBLING.run(long, too_small, NO_LIMITS, quietly).whole


def test_workloads_are_as_they_are_said_to_be(traces: Traces) -> None:
    many, shared = concurrent(traces, FEW), system_prompt(traces, FEW, 60)
    assert many == concurrent(traces, FEW)
    assert many != concurrent(traces, replace(FEW, seed=1))
    assert {request.blocks for request in many.requests} == {()}
    system = shared.requests[0].input_len - many.requests[0].input_len
    mean = sum(request.input_len for request in shared.requests) / len(shared.requests)
    assert system / mean == pytest.approx(0.6, abs=0.01)
    heads = {request.blocks[: system // 16] for request in shared.requests}
    tails = [block for request in shared.requests for block in request.blocks[system // 16 :]]
    assert len(heads) == 1
    assert len(tails) == len(set(tails)), "nobody shares a tail"
    assert behind(many, 0).requests[0].input_len == many.requests[0].input_len


def test_long_contexts_come_at_their_share_of_the_rate(traces: Traces) -> None:
    recorded = long_contexts(traces, FEW)
    assert all(8192 <= request.input_len <= 32768 for request in recorded.requests)
    assert recorded.requests[0].arrival == 0
    slow = slowed(recorded, 0.5).requests
    assert (len(slow) - 1) / slow[-1].arrival == pytest.approx(LOADED * 0.5)
    assert {request.arrival for request in together(recorded).requests} == {0}
    assert len({request.blocks[0] for request in slow}) < len(slow), "they share as they did"


def test_requests_that_come_at_once_cannot_be_slowed() -> None:
    with pytest.raises(ConfigError, match=r"--traces: the long prompts .* all come at once \(2 of them\)"):
        slowed(Load((TraceRequest(0.0, 9000, 5), TraceRequest(0.0, 9000, 5))), 0.5)


def test_sharing_holds_the_system_prompt_once(traces: Traces) -> None:
    load = loads(traces)["shared"]
    ours, paged = (each.run(load, None, NO_LIMITS, quietly) for each in (OURS, PAGED))
    system = load.requests[0].input_len - concurrent(traces, FEW).requests[0].input_len
    saved = (load.seats - 1) * (system // 16) * 16 * TOKEN_BYTES
    assert paged.peak_bytes - ours.peak_bytes == pytest.approx(saved, rel=0.15)
    assert ours.throughput > paged.throughput


def test_bars_say_what_was_wanted_and_measured() -> None:
    ours = {"ample": {"peak_bytes": 50}, "smallest": {"pool_bytes": 70, "throughput": 99}}
    other = {"system": "b", "ample": {"peak_bytes": 100, "throughput": 100}, "smallest": {"pool_bytes": 100}}
    peak, pool, speed = bars(ours, other, 37.8)
    assert (peak["measured"], peak["met"]) == (50, True)
    assert (pool["measured"], pool["met"]) == (pytest.approx(30), False)
    assert (speed["measured"], speed["met"]) == (pytest.approx(-1), True)


ANSWERING = """
import json, sys
for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps({"finished": len(order["requests"]), "seconds": 1.0, "output_tokens": order["pages"],
                      "peak_bytes": order["limits"].get("seconds", 0), "preempted": 0, "preemptions": 0}), flush=True)
"""


def test_a_peer_is_asked_for_run_after_run(tmp_path: Path) -> None:
    program = tmp_path / "peer.py"
    program.write_text(ANSWERING)
    peer = Peer(f"{sys.executable} {program}")
    load = Load((TraceRequest(0.0, 5, 5),))
    first = peer.run(load, GIB, Limits(seconds=7.0), quietly)
    again = peer.run(load, 2 * GIB, NO_LIMITS, quietly)
    peer.close()
    assert (first.finished, first.output_tokens, first.peak_bytes) == (1, GIB // (16 * TOKEN_BYTES), 7.0)
    assert (again.output_tokens, again.peak_bytes) == (2 * first.output_tokens, 0)


@pytest.mark.parametrize(
    ("command", "why"), [("", "cannot be run"), ("/nowhere/python", "cannot be run"), ("false", "exit code 1")]
)
def test_a_peer_that_does_not_answer_is_named(command: str, why: str) -> None:
    peer = Peer(command)
    with pytest.raises(ConfigError, match=rf"--peer: '{command}' .*{why}"):
        peer.run(Load((TraceRequest(0.0, 5, 5),)), None, NO_LIMITS, quietly)
    peer.close()


def test_traces_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--traces: .* has no file mooncake_conversation\*"):
        Traces(tmp_path)


def test_the_command_tells_of_each_system_and_bar(traces: Traces, tmp_path: Path) -> None:
    file = tmp_path / "scenarios.json"
    directory = str(traces.azure.parent)
    can_draw = find_spec("matplotlib") is not None
    given = ["scenarios", "--quick", "--scenario", "2", "--traces", directory, "--json", str(file)]
    given += ["--plots", str(tmp_path / "plots")] if can_draw else []
    result = CliRunner().invoke(bench, given, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    (scenario,) = json.loads(file.read_text())["scenarios"]
    names = [cell["system"] for cell in scenario["cells"]]
    assert names == ["reserved", "doubling", "paged", "cached", "ours"]
    assert [cell["smallest"]["whole"] for cell in scenario["cells"]] == [True] * 5
    assert all(cell["smallest"]["preempted"] <= 0.01 * cell["smallest"]["requests"] for cell in scenario["cells"])
    assert len(scenario["without"]) == 5
    assert [bar["wanted"] for bar in scenario["bars"]] == [37.6, 37.6, -2.0]
    assert "(b) contiguous, doubled, first fit" in result.output
    assert "without planning ahead" in result.output
    assert result.output.count("wanted") == 3
    assert result.output.count("no verdict, quick:") == 3
    assert "Quick: too few requests" in result.output
    assert "met:" not in result.output.lower()
    assert [bar["met"] for bar in scenario["bars"]] == [None] * 3
    assert max(map(len, result.output.splitlines())) <= 80
    assert "…" not in result.output
    assert scenario["matched"]["throughput"] >= 0.98 * scenario["cells"][1]["ample"]["throughput"]
    assert scenario["matched"]["against"] == "doubling"
    assert (tmp_path / "plots" / "scenario-2.png").is_file() == can_draw


def test_the_sweep_is_drawn_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell_figures(each.name, size) for size, each in enumerate((*BASELINES, OURS), 1)]
    sweep = [{"share": share, "system_tokens": 10 * share, "cells": cells} for share in (0, 45)]
    work = {"requests": 1, "mean_input": 5.0, "mean_output": 5.0, "system_tokens": 450}
    scenario = {
        "scenario": 3,
        "title": "x",
        "workload": work,
        "cells": cells,
        "without": [],
        "bars": [],
        "sweep": sweep,
    }
    scenario["matched"] = {"against": "paged", "below": 66.6, "pool_bytes": GIB}
    figures = {"model": "m", "device": "d", "sizes": asdict(Sizes()), "scenarios": [scenario]}
    show(figures)
    assert "450" in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    draw(tmp_path, figures)
    assert {file.name for file in tmp_path.iterdir()} == {"scenario-3.png", "scenario-3-sweep.png"}


def test_tables_of_whole_runs_fit_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cells = [cell_figures(each.name, 326, each.title, 12_583.3) for each in (*BASELINES, OURS)]
    without = [cell_figures(each.name, 105, each.title, 684.6) for each in WITHOUT]
    work = {"requests": 1024, "mean_input": 3258.0, "mean_output": 202.0, "system_tokens": 1952}
    bar = {"figure": "peak bytes below paged", "measured": 57.3, "wanted": 52.9}
    bars = [{**bar, "met": True}, {**bar, "met": False}, {**bar, "measured": 9.8, "wanted": -2.0, "met": True}]
    sweep = [{"share": 90, "system_tokens": 11_760, "cells": cells}]
    told = {"scenario": 3, "title": "256 with one system prompt", "workload": work, "cells": cells, "without": without}
    matched = {"against": "paged", "below": 85.6, "pool_bytes": GIB}
    show({"sizes": asdict(Sizes()), "scenarios": [{**told, "bars": bars, "sweep": sweep, "matched": matched}]})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line or "Quick" in line for line in lines)
    assert sum(line.startswith(" (d) pages of 16 tokens, LRU prefix cache ") for line in lines) == 2, "in one line each"
    assert [line.split(":")[0] for line in lines if "wanted" in line] == ["met", "MISSED", "met"]
    assert "+9.8%, wanted -2.0% or more" in "".join(lines)


def test_each_run_has_its_bar(
    traces: Traces, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with progress_bars(show=True) as begin:
        begin("run 1", 2)(2)
        begin("run 2", 4)(1)
    shown = capsys.readouterr().err
    assert "run 1" not in shown.rpartition("run 2")[2]
    assert "25%" in shown


def cell_figures(name: str, gib: int, title: str = "", throughput: float = 5.0) -> dict[str, Any]:
    """A cell's figures, such as they are printed."""
    outcome = asdict(Outcome(1, 1, 1.0, 5, gib * GIB, 0, 0))
    part = {**outcome, "throughput": throughput, "pool_bytes": gib * GIB}
    return {"system": name, "title": title or name, "ample": part, "smallest": part, "device": part}


def test_plots_without_their_library_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(bench, ["scenarios", "--traces", str(tmp_path), "--plots", str(tmp_path)])
    assert result.exit_code == 2
    assert "--plots: needs matplotlib; pip install 'infergc[plot]'" in result.output


@pytest.mark.parametrize(
    ("option", "said"),
    [("--scenario", "'' is no scenario"), ("--traces", "--traces"), ("--plots", "--plots"), ("--json", "--json"),
     ("--cpu-model", "--cpu-model: . is not a model directory"), ("--peer", "--peer: '' cannot be run")],
)  # fmt: skip
def test_an_empty_option_is_refused_by_name(
    option: str, said: str, traces: Traces, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "infergc.bench.scenarios.campaign._compared",
        lambda bench, peers, _: peers[0].run(bench.load, None, NO_LIMITS, quietly),
    )
    given = ["scenarios", "--quick", "--scenario", "2", "--traces", str(traces.azure.parent), option, ""]
    result = CliRunner().invoke(bench, given)
    assert result.exit_code == 2, result.output
    assert said in result.output


def test_a_scenario_that_there_is_not_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench, ["scenarios", "--traces", str(tmp_path), "--scenario", "1,4"])
    assert result.exit_code == 2
    assert "'4' is no scenario; there are 1, 2 and 3" in result.output


def test_every_allocator_is_one() -> None:
    allocators: list[Allocator] = [Reserved(1, 1), Doubling(1, 1), Paged(16)]
    assert [memory.held for memory in allocators] == [0, 0, 0]
