"""The mission's scenarios in small on the CPU engine: the simulator holds the same bytes in every step."""

from pathlib import Path

import pytest

from cpu.families import make_family
from infergc.bench.scenarios.twin import compare, small, spelled
from infergc.bench.scenarios.workloads import Traces
from infergc.sim.requests import TraceRequest
from samples.scenario_traces import write_traces


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("llama3", tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_simulator_holds_the_bytes_that_the_engine_holds(number: int, model: Path, tmp_path: Path) -> None:
    requests = small(number, Traces(write_traces(tmp_path)), seed=0)
    found = compare(number, requests, model, lambda *_: lambda _: None)
    wide, narrow = found.measured
    assert [run.series for run in found.simulated] == [wide.series, narrow.series]
    assert found.simulated[0].peak == wide.peak
    assert found.equal
    assert wide.peak > narrow.peak > 0
    assert min(len(narrow.series), len(wide.series)) > 15
    assert max(cached for _, cached, _ in wide.series) > 0


def test_a_difference_in_one_step_is_seen(model: Path, tmp_path: Path) -> None:
    found = compare(2, small(2, Traces(write_traces(tmp_path)), seed=0)[:2], model, lambda *_: lambda _: None)
    live, cached, transit = found.simulated[1].series[3]
    found.simulated[1].series[3] = (live + 1, cached, transit)
    assert not found.equal
    assert not found.figures["equal"]


def test_prompts_are_spelled_so_that_equal_blocks_are_equal_tokens_and_others_not() -> None:
    prompt = spelled(TraceRequest(0.0, 7, 1, (3, 130, 131), 3), vocab=131)
    assert prompt == [3, 0, 0, 130, 0, 0, 0]
