"""``infergc bench scenarios``: how much memory the mission's three loads need, beside what others do."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infergc.bench.json_file import write_json
from infergc.cli.bench.json_option import json_option
from infergc.cli.failures import told
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.model_dir import model_dir

if TYPE_CHECKING:
    from infergc.bench.scenarios.cells import Tell

_LOAD = "Load"
_BESIDE = "Beside"
_OUTPUT = "Output"
_PATH = click.Path(path_type=Path)


def _numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    """Read comma-separated numbers of scenarios."""
    numbers = sorted({part.strip() for part in text.split(",")})
    wrong = [number for number in numbers if number not in {"1", "2", "3"}]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is no scenario; there are 1, 2 and 3, as in --scenario 1,3")
    return tuple(map(int, numbers))


def _directory(_: click.Context, __: click.Parameter, text: str | None) -> Path | None:
    """Read a directory's name: an empty one is a mistake, not the directory that one is in."""
    if text == "":
        raise click.BadParameter("'' is no directory; name one, as in --plots pictures")
    return None if text is None else Path(text)


@click.command(cls=GroupedCommand, short_help="The mission's three loads: memory beside other ways to keep KV.")
@option(_LOAD, "--traces", required=True, metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Where mooncake_conversation*.jsonl and azure*conv*.csv lie, plain or gzip.")  # fmt: skip
@option(_LOAD, "--scenario", "numbers", default="1,2,3", metavar="N,N,…", callback=_numbers,
        help="1: long contexts. 2: 256 concurrent. 3: 256 concurrent with one system prompt.")  # fmt: skip
@option(_LOAD, "--quick", is_flag=True,
        help="A few requests and a coarse search: seconds instead of minutes, no verdict on any bar.")  # fmt: skip
@option(_LOAD, "--seed", default=0, type=click.IntRange(min=0), help="Draws requests from the Azure trace.")
@option(_BESIDE, "--peer", metavar="COMMAND",
        help="Another engine's scheduler: a process as benchmarks/peers/run_vllm_scenarios.py.")  # fmt: skip
@option(_BESIDE, "--cpu-model", metavar="DIR", type=_PATH,
        help="Run each in small on the CPU engine with this model too, and compare bytes.")  # fmt: skip
@option(_OUTPUT, "--plots", metavar="DIR", type=click.Path(file_okay=False), callback=_directory,
        help="Draw there: scenario-1.png and so on. Needs matplotlib: infergc[plot].")  # fmt: skip
@json_option(_OUTPUT)
def scenarios(
    traces: Path, numbers: tuple[int, ...], peer: str | None, cpu_model: Path | None, plots: Path | None,
    json_file: Path | None, **sizes: Any,
) -> None:  # fmt: skip
    """Serve three loads in simulated time, Llama-3-8B on an A100 of 80 GB, and see how much memory each way of
    keeping KV holds, and in how small a pool it still serves as well. See docs/scenarios.md.
    """  # noqa: D205 - click shows it as one paragraph
    from infergc.cli.bench.scenario_plots import check_plots, draw  # noqa: PLC0415 - heavy
    from infergc.cli.bench.scenario_tables import show  # noqa: PLC0415

    if plots is not None:
        check_plots(plots)
    if cpu_model is not None:
        cpu_model = model_dir(cpu_model, "--cpu-model")
    with told():
        figures = _measured(numbers, traces, peer, **sizes)
        if cpu_model is not None:
            figures["cpu"] = _twins(numbers, traces, cpu_model, sizes["seed"])
    show(figures)
    if plots is not None:
        draw(plots, figures)
    if json_file is not None:
        write_json(json_file, figures)


def _measured(numbers: tuple[int, ...], directory: Path, peer: str | None, *, quick: bool, seed: int) -> dict[str, Any]:
    from dataclasses import replace  # noqa: PLC0415

    from infergc.bench.scenarios.campaign import campaign  # noqa: PLC0415 - heavy
    from infergc.bench.scenarios.peer import Peer  # noqa: PLC0415
    from infergc.bench.scenarios.workloads import QUICK, Sizes, Traces  # noqa: PLC0415

    peers = [] if peer is None else [Peer(peer)]
    sizes = replace(QUICK if quick else Sizes(), seed=seed)
    try:
        with _bar() as tell:
            return campaign(numbers, Traces(directory), sizes, peers, tell)
    finally:
        for each in peers:
            each.close()


def _twins(numbers: tuple[int, ...], directory: Path, model: Path, seed: int) -> list[dict[str, Any]]:
    from infergc.bench.scenarios.twin import twins  # noqa: PLC0415 - heavy
    from infergc.bench.scenarios.workloads import Traces  # noqa: PLC0415

    with _bar() as tell:
        return twins(numbers, Traces(directory), model, seed, tell)


@contextmanager
def _bar() -> "Iterator[Tell]":
    """A bar for the run that goes on."""
    from infergc.llm.progress import progress_bars  # noqa: PLC0415 - heavy

    runs = count(1)
    with progress_bars(show=True) as begin:
        yield lambda label, requests: begin(f"run {next(runs)}, scenario {label}", requests)
