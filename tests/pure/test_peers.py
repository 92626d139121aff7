"""Comparing with peers: pairs, ratios, contenders, and what happens where none is installed."""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PEERS))


def script(name: str) -> ModuleType:
    """A file of benchmarks/peers, which is no package."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, PEERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pairs_stand_side_by_side_and_take_turns_at_going_first() -> None:
    calls: list[str] = []

    def measure(name: str, value: float):
        return lambda number: calls.append(f"{name}{number}") or value + number

    paired = script("paired")
    found = paired.in_pairs(measure("us", 10), {"a": measure("a", 5), "b": measure("b", 1)}, 2)
    assert calls == ["us0", "a0", "us1", "b1", "a2", "us2", "b3", "us3"], "nobody hears a number twice"
    assert found == {"a": [(10, 5), (12, 7)], "b": [(11, 2), (13, 4)]}


def test_a_ratio_is_the_median_over_pairs() -> None:
    found = script("paired").ratios([10, 20, 30], [10, 5, 15])
    assert (found.median, found.low, found.high) == (2.0, 1.0, 4.0)
    assert str(found) == "2.00 (1.00 to 4.00)"


CONTENDER = """
from answering import Answers
Answers().serve({{"engine": "echo"}}, 100, {generate})
"""


def recipe(tmp_path: Path, generate: str):
    program = tmp_path / "run.py"
    program.write_text(CONTENDER.format(generate=generate))
    return script("contender").Recipe("echo", (sys.executable, str(program)), {})


def test_a_contender_answers_rounds_in_a_process_of_its_own(tmp_path: Path) -> None:
    contender, load = script("contender"), script("throughput").parse_load("2x3x4")
    loud = "lambda prompts, count: print('noise') or [[sum(prompt)] * count for prompt in prompts]"
    with contender.started(recipe(tmp_path, loud)) as echo:
        assert echo.description == {"engine": "echo"}
        first, again, other = echo.round(load, 1), echo.round(load, 1), echo.round(load, 2)
        assert echo.peak_bytes() > 1 << 20
    assert first["digest"] == again["digest"] != other["digest"]
    assert first["speed"] == pytest.approx(8 / first["seconds"])


def test_a_contender_that_does_other_work_is_not_believed(tmp_path: Path) -> None:
    contender, load = script("contender"), script("throughput").parse_load("2x3x4")
    short = "lambda prompts, count: [[1]]"
    with (
        contender.started(recipe(tmp_path, short)) as echo,
        pytest.raises(contender.ContenderError, match=r"echo: 1 outputs of \[1\] tokens came of a load 2x3x4"),
    ):
        echo.round(load, 1)


def test_a_contender_that_dies_says_why(tmp_path: Path) -> None:
    contender = script("contender")
    with pytest.raises(contender.ContenderError, match=r"^echo did not start: NameError"):
        contender.Contender(recipe(tmp_path, "no_such_name"))


def test_peers_that_are_not_given_are_skipped_by_name() -> None:
    throughput = script("throughput")
    given = dict.fromkeys(("openvino_python", "openvino_model", "vllm_python", "transformers_python"))
    args = argparse.Namespace(threads=1, loads=[], model=Path(), transformers_options="", **given)
    made, skipped = throughput.recipes(args)
    assert (made, set(skipped)) == ({}, {"openvino", "vllm", "transformers"})
    args.transformers_python = "python"
    made, skipped = throughput.recipes(args)
    assert (set(made), set(skipped)) == ({"transformers"}, {"openvino", "vllm"})


NOWHERE = "argument --json: cannot write /nowhere/x.json: No such file or directory"
NO_PYTHON = "argument --vllm-python: /nowhere/python cannot be run"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("throughput --loads 32x256", "argument --loads"),
        ("throughput --loads 0x32x8", "argument --loads"),
        ("throughput --pairs 0", "argument --pairs: '0' is not a whole number from 1 up"),
        ("throughput --threads 0", "argument --threads: '0' is not a whole number from 1 up"),
        ("throughput --json /nowhere/x.json", NOWHERE),
        ("throughput --transformers-python /nowhere/python", "--transformers-python: /nowhere/python cannot be run"),
        (f"throughput --openvino-python {sys.executable}", "--openvino-python: --openvino-model is needed with it"),
        ("control --vllm-python /nowhere/python", NO_PYTHON),
        ("control --python /nowhere/python", "argument --python: /nowhere/python cannot be run"),
        ("control --rounds 0", "argument --rounds: '0' is not a whole number from 1 up"),
        ("control --running x", "argument --running: 'x' is not a list of whole numbers from 1 to 4096, as 1024,4096"),
        ("control --running 64,,1", "argument --running: '64,,1' is not a list"),
        ("control --running 64,5000", "argument --running: '64,5000' is not a list of whole numbers from 1 to 4096"),
        ("control --input-len 2000000", "--input-len and --output-len: "),
        ("control --json /nowhere/x.json", NOWHERE),
        ("heap --vllm-python /nowhere/python", NO_PYTHON),
        ("heap --rounds x", "argument --rounds: 'x' is not a whole number from 1 up"),
        ("heap --pages x", "argument --pages: 'x' is not a list of whole numbers from 256 to 10000000"),
        ("heap --pages 255", "argument --pages: '255' is not a list of whole numbers from 256 to 10000000"),
        ("heap --tokens 15", "argument --tokens: '15' is not a list of whole numbers from 16 to 20000000"),
        ("heap --pages 1000,256 --tokens 64,513", "argument --tokens: 513 is over 512, an eighth of --pages 256"),
        ("heap --json /nowhere/x.json", NOWHERE),
    ],
)
def test_a_wrong_flag_is_refused_by_name(flags: str, message: str) -> None:
    name, *given = flags.split()
    needed = ["--model", "x"] if name == "throughput" else ["--vllm-python", sys.executable]
    refused = run_script(name, *needed, *given)
    assert refused.returncode == 2
    assert message in refused.stderr


@pytest.mark.parametrize("name", ["control --running 2 --rounds 1", "heap --pages 256 --tokens 16 --rounds 1"])
def test_a_python_without_vllm_is_told_of_and_not_shown_our_own_lines(name: str) -> None:
    refused = run_script(*name.split(), "--vllm-python", shutil.which("false"))
    assert refused.returncode == 1
    assert "--vllm-python: vLLM's side ended with exit code 1" in refused.stderr
    assert "Traceback" not in refused.stderr


def run_script(name: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join(filter(None, (str(PEERS.parents[1] / "src"), os.environ.get("PYTHONPATH"))))
    command, environment = [sys.executable, PEERS / f"{name}.py", *flags], {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
