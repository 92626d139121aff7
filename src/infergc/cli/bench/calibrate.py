"""``infergc bench calibrate``: how long steps take on this machine, for the simulator."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infergc.bench.json_file import write_json
from infergc.bench.workload import Load, parse_load
from infergc.cli.bench.json_option import json_option
from infergc.cli.engine_options import engine_options
from infergc.cli.failures import configured, told
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.model_dir import model_dir, model_option

if TYPE_CHECKING:
    from infergc.bench.calibrate import Report

_MEASUREMENT = "Measurement"


class LoadType(click.ParamType[Load]):
    """Requests, prompt tokens and output tokens, as 32x256x128."""

    name = "load"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Load:
        """Read them."""
        if isinstance(value, Load):
            return value
        try:
            return parse_load(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(cls=GroupedCommand, short_help="Step times of this machine, for the simulator.")
@model_option(_MEASUREMENT)
@option(_MEASUREMENT, "--rounds", default=3, type=click.IntRange(min=1),
        help="Times that each load is run; a step's time is its shortest.")  # fmt: skip
@option(_MEASUREMENT, "--longest", default=2048, type=click.IntRange(min=1), help="Tokens of a prompt, at most.")
@option(_MEASUREMENT, "--load", "loads", multiple=True, metavar="RxIxO", type=LoadType(),
        help="Predict this load too: requests at once, prompt tokens, output tokens. May be repeated.")  # fmt: skip
@json_option(_MEASUREMENT)
@engine_options
def calibrate(
    model: Path | None, rounds: int, longest: int, loads: tuple[Load, ...], json_file: Path | None, **engine: Any
) -> None:
    """Measure how long the engine's steps take here, and fit a cost to them.

    The cost is linear in what a step computes and reads, fitted to lone prompts and crowds of decodes. How far its
    predictions are off is then measured on another load, of requests that come one by one. The file of --json is what
    infergc simulate --device takes.
    """
    config = configured(model=model_dir(model, "--model"), **engine)
    from infergc.bench.calibrate import run  # noqa: PLC0415 - heavy, and --help must not wait for it

    with told():
        report = run(config, loads, rounds, longest)
    show(report)
    if json_file is not None:
        write_json(json_file, report.calibration.model_dump(mode="json"))


def show(report: "Report") -> None:
    """Print how well steps were predicted."""
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    found = report.calibration
    table = Table(
        title=f"Step times of {found.model.name} in {found.model.dtype}, {found.threads} threads: predicted, measured",
        caption="Errors relative to the measured time. Total: predicted over measured.\n"
        "Noise: how much longer a measurement of a step is than its shortest, at the median.",
    )
    table.add_column("load", no_wrap=True)
    for heading in ("steps", "median", "p90", "total", "noise"):
        table.add_column(heading, justify="right")
    for one in report.predictions:
        shares = [f"{share:.1%}" for share in (one.median, one.p90)]
        noise = "" if one.noise is None else f"{one.noise:.1%}"
        table.add_row(one.name, str(one.steps), *shares, f"{one.total:.3f}", noise)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Held out: {found.held_out.median:.1%} at the median, 90 % of steps within {found.held_out.p90:.1%}")
    if not report.is_quiet:
        console.print("Not reliable: equal steps took unequal times, as on a busy machine; repeat it on a quiet one")
    console.print(f"On {found.machine}")
