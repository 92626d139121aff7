"""``infergc bench concurrency``: how many requests run at once, measured and planned."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infergc.bench.json_file import write_json
from infergc.cli.bench.json_option import json_option
from infergc.cli.engine_options import engine_options
from infergc.cli.failures import configured, told
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.model_dir import model_dir, model_option

if TYPE_CHECKING:
    from infergc.bench.concurrency import Sweep

_LOAD = "Load"
_MEASUREMENT = "Measurement"
_POSITIVE = click.IntRange(min=1)


@click.command(cls=GroupedCommand, short_help="How many requests run at once: measured, and as infergc plan says.")
@model_option(_LOAD)
@option(_LOAD, "--input-len", default=256, type=_POSITIVE, help="Random tokens in each prompt.")
@option(_LOAD, "--output-len", default=128, type=_POSITIVE, help="Tokens that each request generates, greedily.")
@json_option(_MEASUREMENT)
@engine_options
def concurrency(model: Path | None, input_len: int, output_len: int, json_file: Path | None, **engine: Any) -> None:
    """Let in ever more requests until not all run at once or more than 1 % are preempted, and compare with the planner.

    --max-num-seqs is what is swept. Give a --kv-cache-memory that a few dozen requests fill. What infergc plan says
    that memory holds may be more: there prompts take no time.
    """
    config = configured(model=model_dir(model, "--model"), **engine)
    from rich.console import Console  # noqa: PLC0415

    from infergc.bench.concurrency import sweep  # noqa: PLC0415 - heavy, and --help must not wait for it

    with told(), Console(stderr=True).status("measuring …") as status:
        found = sweep(config, input_len, output_len, lambda seqs: status.update(f"measuring: {seqs} let in"))
    _show(found, f"{input_len} tokens in, {output_len} out")
    if json_file is not None:
        write_json(json_file, {**asdict(found), "measured": found.measured})


def _show(found: "Sweep", load: str) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=f"Requests that run at once: {load}")
    for heading in ("let in", "ran at once", "preempted", "requests/s"):
        table.add_column(heading, justify="right")
    for point in found.points:
        table.add_row(str(point.seqs), str(point.running), f"{point.preempted:.1%}", f"{point.rate:.1f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Run at once: {found.measured} measured, {found.planned} planned")
