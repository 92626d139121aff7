"""benchmarks/gpu.py from end to end on the CPU: every section, what is missing, a kernel that is wrong, no time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers.utils.import_utils import KERNELS_MIN_VERSION

from samples.servers import wait_for

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
MEMORY = Path("/dev/shm")  # noqa: S108 - where the program keeps models, if it has room
NAMES = ["checks", "attention", "engine-1b", "flashinfer", "overhead", "transfers", "scenarios"]
LAST = "engine-8b"  # quick, it is engine-1b once more
HELD = (  # modules that torch, Triton and transformers 4.57 bring: later ones bring more, which is not counted on
    "torch functorch torchgen triton filelock typing_extensions setuptools _distutils_hack pkg_resources sympy isympy "
    "mpmath networkx jinja2 markupsafe fsspec transformers numpy yaml _yaml packaging regex requests urllib3 idna "
    "certifi charset_normalizer tokenizers safetensors huggingface_hub hf_xet tqdm"
)
LEAN = ",".join(sorted({*packages_distributions()} - {*HELD.split(), "infergc"}))  # what a machine for training has not
BLOCKING = """
import os, sys

class Blind:  # a finder that does not see what is blocked
    def __init__(self, finder):
        self._finder = finder
    def find_spec(self, name, path=None, target=None):
        blocked = name.partition(".")[0] in os.environ["BLOCKED"].split(",")
        return None if blocked else self._finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self._finder, name)

sys.meta_path[:] = [Blind(finder) for finder in sys.meta_path]
"""
BREAKING = """
import sys
import time
from importlib.machinery import PathFinder

class Breaker:
    def find_spec(self, name, path=None, target=None):
        if name != "infergc.kernels.triton.dense":
            return None
        spec = PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            right = module.TritonOps.silu_mul
            module.TritonOps.silu_mul = lambda self, x: right(self, x) * 1.25
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Breaker())
"""

KERNELS = """
from pathlib import Path

def get_kernel(*names, **_):  # what fetches from a hub, in the package that transformers does it by
    Path(__file__).with_name("asked").write_text(str(names))

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__init__": lambda self, *_, **__: None})
"""


@dataclass
class Run:
    """What the program printed and wrote, and its exit status."""

    status: int
    out: str
    log: str
    told: dict[str, Any]

    def figures(self, section: str) -> dict[str, dict[str, Any]]:
        """By what was measured."""
        (found,) = [each["figures"] for each in self.told["sections"] if each["section"] == section]
        return {figure["what"]: figure for figure in found}


def run(folder: Path, *flags: str, site: str = "", **environment: str) -> Run:
    """Run the program as from a bare checkout; ``site`` is run by each of its processes first."""
    (folder / "sitecustomize.py").write_text(site)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *flags],
        env={**kept, "PYTHONPATH": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, json.loads((folder / "gpu-benchmark.json").read_text()))


def read_up_to(process: "subprocess.Popen[str]", begin: str) -> None:
    """Read what it logs up to a line that begins so."""
    assert process.stderr is not None
    seen = [process.stderr.readline()]
    while not seen[-1].startswith(begin):
        assert seen[-1], f"it ended: {seen}"
        seen.append(process.stderr.readline())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The sections, quick."""
    folder = tmp_path_factory.mktemp("whole")
    flags = ("--device", "cpu", "--quick", "--minutes", "15", "--sections", ",".join(NAMES))
    found = run(folder, *flags, "--markdown", str(folder / "page.md"))
    found.told["page"] = (folder / "page.md").read_text()
    return found


def test_every_section_measures_and_nothing_fails(whole: Run) -> None:
    assert whole.status == 0, whole.log
    assert [section["section"] for section in whole.told["sections"]] == NAMES
    for name in NAMES:
        figures = whole.figures(name).values()
        assert [figure["value"] for figure in figures if figure["value"] is not None] or name == "flashinfer", name
        assert [figure["what"] for figure in figures if figure["failed"]] == []
        assert [figure["skipped"] for figure in figures if figure["skipped"].startswith("stopped")] == []
        assert [figure["what"] for figure in figures if figure["value"] is None and not figure["skipped"]] in (
            [],
            ["attention and type of ours"],
        )


def test_a_run_says_what_it_ran_on(whole: Run) -> None:
    assert "core" in whole.told["device"]
    assert f"torch {torch.__version__}" in whole.told["versions"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", whole.told["date"])
    assert whole.told["stand_ins"] == []


def test_the_table_is_printed_and_says_that_a_quick_run_means_nothing(whole: Run) -> None:
    lines = whole.out.strip().splitlines()
    assert lines[0] == "Every figure: gpu-benchmark.json"
    assert lines[2].split() == ["section", "what", "figure", "bar", "verdict"]
    assert "figures mean nothing" in lines[-1]
    assert "no verdict" in whole.out
    assert not whole.told["judged"]
    assert {figure["met"] for name in NAMES for figure in whole.figures(name).values()} == {None}
    assert whole.told["page"].count("\n| ") == 1 + sum(len(section["figures"]) for section in whole.told["sections"])


def test_every_kernel_is_as_the_reference(whole: Run) -> None:
    checks = whole.figures("checks")
    assert checks["attention, triton"]["value"] >= 4
    assert checks["moves of pages"]["value"] == 2
    assert checks["dense work"]["value"] == 4
    assert checks["same bits in chunks, triton"]["value"] == 100
    assert checks["build, triton"]["value"] > 0
    assert not whole.told["wrong"]
    flashinfer = whole.figures("flashinfer").values()
    assert all(figure["skipped"] or figure["value"] for figure in flashinfer)
    assert flashinfer


def test_attention_is_a_share_of_what_was_measured_beside_it(whole: Run) -> None:
    figures = whole.figures("attention")
    decode, prefill = figures["decode, 2 of 40, triton"], figures["prefill, 1 of 48, triton"]
    assert (decode["bar"], prefill["bar"]) == (80, 40)
    assert 0 < decode["value"] < 100
    assert 0 < prefill["value"] < 100
    assert len(decode["rounds"]) == 2
    assert figures["copy, beside triton"]["value"] > 0
    reserved = figures["decode, 2 of 40, reserved, triton"]
    assert reserved["value"] > 0
    assert reserved["note"] == "of copy bandwidth; launched for 2 rows, 512 positions"


def test_the_engine_and_transformers_give_the_same_first_tokens(whole: Run) -> None:
    figures = whole.figures("engine-1b")
    for load in ("3x20x6", "1x20x6"):
        assert figures[f"{load}, infergc"]["value"] > 0
        for peer in ("dynamic", "static", "continuous"):
            figure = figures[f"{load}, transformers {peer}"]
            assert figure["value"] > 0
            assert re.fullmatch(r"ours [0-9.]+ times \(.*\); first tokens alike: 100%; attention sdpa", figure["note"])


def test_the_overhead_that_a_cpu_can_show_is_measured(whole: Run) -> None:
    figures = whole.figures("overhead")
    assert figures["decode step of 4"]["value"] > 0
    assert -100 < figures["between steps of 4"]["value"] < 100
    assert "collections" in figures["collector on, slower by"]["note"]
    (skipped,) = [figure["skipped"] for what, figure in figures.items() if what.startswith("host overhead")]
    assert "CUDA" in skipped


def test_transfers_are_told_for_runs_and_single_pages(whole: Run) -> None:
    figures = whole.figures("transfers")
    for kind in ("store", "load"):
        for pages in (1, 4, 16, 64):
            assert figures[f"{kind}, runs of {pages} x 64.0 KiB"]["value"] > 0


def test_the_scenarios_take_memory_and_are_served_whole(whole: Run) -> None:
    figures = whole.figures("scenarios")
    for scenario in ("1 long contexts", "2 concurrent", "3 one system prompt"):
        sizes = {name: figures[f"{scenario}, {name}"]["value"] for name in ("reserved", "doubled", "paged", "ours")}
        assert min(sizes.values()) > 0
        assert sizes["doubled"] <= sizes["reserved"]
        assert figures[f"{scenario}, ours"]["note"].endswith("requests, 0 gave way")
        below = figures[f"{scenario}, ours below doubled"]["value"]
        assert below == pytest.approx(100 * (1 - sizes["ours"] / sizes["doubled"]))
    assert figures["3 one system prompt, ours below paged"]["value"] > 20  # what is shared is there once


def test_a_lean_machine_measures_the_engine_all_the_same(whole: Run, tmp_path: Path) -> None:
    flags = ("--device", "cpu", "--quick", "--minutes", "15", "--sections", "engine-1b,scenarios")
    lean = run(tmp_path, *flags, site=BLOCKING, BLOCKED=f"{LEAN},transformers")
    assert lean.status == 0, lean.log
    assert lean.told["stand_ins"] == ["llguidance", "msgspec", "pydantic"]
    assert "llguidance, msgspec, pydantic" in lean.out
    figures = lean.figures("engine-1b")
    assert figures["transformers"]["skipped"] == "transformers is not installed"
    for load in ("3x20x6", "1x20x6"):  # the digest of all outputs
        assert figures[f"{load}, infergc"]["note"] == whole.figures("engine-1b")[f"{load}, infergc"]["note"]
    assert "3 one system prompt, ours" in lean.figures("scenarios")


def test_transformers_asks_no_hub_for_kernels(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text(KERNELS)
    (tmp_path / f"kernels-{KERNELS_MIN_VERSION}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: kernels\nVersion: {KERNELS_MIN_VERSION}\n"
    (tmp_path / f"kernels-{KERNELS_MIN_VERSION}.dist-info" / "METADATA").write_text(metadata)
    found = run(tmp_path, "--device", "cpu", "--quick", "--minutes", "15", "--sections", "engine-1b")
    assert found.figures("engine-1b")["3x20x6, transformers continuous"]["value"] > 0, found.log
    assert not (tmp_path / "kernels" / "asked").exists()


def test_without_triton_its_kernels_alone_are_skipped_by_name(tmp_path: Path) -> None:
    flags = ("--device", "cpu", "--quick", "--minutes", "15", "--sections", "checks,transfers")
    found = run(tmp_path, *flags, site=BLOCKING, BLOCKED="triton")
    assert found.status == 0, found.log
    checks = found.figures("checks")
    for what in ("attention, triton", "moves of pages", "dense work"):
        assert checks[what]["skipped"].startswith("triton is not installed")
    assert found.figures("transfers")["load, runs of 16 x 64.0 KiB"]["value"] > 0
    assert found.figures("transfers")["moves within the device"]["skipped"] == "triton is not installed"


def test_without_torch_every_section_is_skipped_by_name(tmp_path: Path) -> None:
    found = run(tmp_path, "--minutes", "15", "--sections", "checks,transfers", site=BLOCKING, BLOCKED="torch")
    assert found.status == 1, found.log
    assert [found.figures(name)["all"]["skipped"] for name in ("checks", "transfers")] == ["torch is not installed"] * 2


def test_a_kernel_that_differs_is_named_and_fails_the_run(tmp_path: Path) -> None:
    found = run(tmp_path, "--device", "cpu", "--quick", "--minutes", "15", "--sections", "checks", site=BREAKING)
    assert found.status == 1
    assert found.told["wrong"]
    checks = found.figures("checks")
    assert checks["dense work"]["wrong"].startswith("activation, float16: Tensor-likes are not close")
    assert not checks["attention, triton"]["wrong"]
    assert "DIFFERS: activation" in found.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    found = run(tmp_path, "--sections", "transfers,checks", "--markdown", str(page))
    assert found.status == 1, found.log
    for name in ("checks", "transfers"):
        assert found.figures(name)["all"]["skipped"].endswith("finds no NVIDIA GPU here")
    assert found.told["sections"][1]["seconds"] == 0, "nothing is begun in vain"
    assert "--device cpu --quick tries the program" in found.out
    assert not page.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_tells_what_it_has_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "scratch").mkdir()
    before = {*MEMORY.glob("infergc-gpu-*")}
    command = [sys.executable, str(PROGRAM), "--device", "cpu", "--quick", "--sections", "transfers,engine-1b,checks"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "scratch")},
    )  # fmt: skip
    read_up_to(process, "engine-1b: at most")
    wait_for(lambda: bool(psutil.Process(process.pid).children()))
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(number)
    out, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert "Traceback" not in log
    told = json.loads((tmp_path / "gpu-benchmark.json").read_text())["sections"]
    assert [section["section"] for section in told] == ["checks", "engine-1b", "transfers"]
    assert told[0]["figures"][0]["value"]
    assert [told[at]["figures"][-1]["skipped"] for at in (1, 2)] == ["interrupted"] * 2
    assert "engine-1b" in out
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert {*MEMORY.glob("infergc-gpu-*")} <= before
    assert not [*tmp_path.glob("scratch/infergc-gpu-*")]


@pytest.mark.parametrize("wait", [0, 0.0005, 0.001, 0.002, 0.004])
def test_a_run_that_is_interrupted_while_it_starts_a_section_ends(tmp_path: Path, wait: float) -> None:
    command = [sys.executable, str(PROGRAM), "--device", "cpu", "--quick", "--sections", "transfers,checks"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        read_up_to(process, "checks: at most")
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        try:
            _, log = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--minutes", "0"), "--minutes: 0 is not allowed; it must be > 0"),
        (("--device", "cpu"), "--device cpu: tries the program, which goes with --quick"),
        (("--sections", "checks,"), 'there is no section ""; there are checks, attention'),
        (("--traces", "nowhere"), "--traces: nowhere is no directory"),
        (("--sections", "checks, attenti0n"), 'there is no section "attenti0n"; there are checks, attention'),
    ],
)
def test_wrong_options_are_refused_at_once(tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *flags], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_sections_that_get_no_time_are_named(tmp_path: Path) -> None:
    found = run(tmp_path, "--device", "cpu", "--quick", "--minutes", "0.05")
    assert found.status == 1, "nothing was checked"
    assert "no section began; 20" in found.out
    assert [section["section"] for section in found.told["sections"]] == [*NAMES, LAST]
    assert {found.figures(name)["all"]["skipped"] for name in (*NAMES, LAST)} == {"no time was left"}


def test_figures_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    asked = tmp_path / "elsewhere.json"
    command = [sys.executable, str(PROGRAM), "--minutes", "0.01", "--sections", "transfers", "--json", str(asked)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [section["section"] for section in json.loads(asked.read_text())["sections"]] == ["transfers"]
    assert done.stdout.startswith(f"Every figure: {asked}\n")
    assert list(tmp_path.iterdir()) == [asked]


def test_sections_look_at_no_file_of_the_runs(tmp_path: Path) -> None:
    """They were refused where the file that is written by default could not be, though another was asked for."""
    (tmp_path / "gpu-benchmark.json").mkdir()
    asked = tmp_path / "elsewhere.json"
    flags = ("--device", "cpu", "--quick", "--sections", "transfers", "--json", str(asked))
    done = subprocess.run([sys.executable, str(PROGRAM), *flags], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(asked.read_text())["sections"][0]["figures"][0]["value"] > 0
