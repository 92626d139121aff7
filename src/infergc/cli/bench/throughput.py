"""``infergc bench throughput``: tokens a second under a load, the bound, and where the rest goes."""

from pathlib import Path
from typing import Any

import click

from infergc.bench.json_file import write_json
from infergc.cli.bench.json_option import json_option
from infergc.cli.engine_options import engine_options
from infergc.cli.failures import configured, told
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.model_dir import model_dir, model_option

_LOAD = "Load"
_MEASUREMENT = "Measurement"
_POSITIVE = click.IntRange(min=1)


@click.command(cls=GroupedCommand, short_help="Tokens a second, and where the time goes.")
@model_option(_LOAD)
@option(_LOAD, "--requests", default=32, type=_POSITIVE, help="Requests, all given at once.")
@option(_LOAD, "--input-len", default=256, type=_POSITIVE, help="Random tokens in each prompt; --seed draws them.")
@option(_LOAD, "--output-len", default=128, type=_POSITIVE, help="Tokens that each request generates, greedily.")
@option(_MEASUREMENT, "--rounds", default=5, type=_POSITIVE, help="Measured rounds, each with new prompts.")
@option(_MEASUREMENT, "--warmup", default=1, type=click.IntRange(min=0), help="Rounds before these.")
@option(_MEASUREMENT, "--bound/--no-bound", "with_bound", default=True,
        help="Afterwards measure what the machine allows, and print where the rest goes.")  # fmt: skip
@json_option(_MEASUREMENT)
@engine_options
def throughput(
    model: Path | None,
    requests: int,
    input_len: int,
    output_len: int,
    rounds: int,
    warmup: int,
    with_bound: bool,
    json_file: Path | None,
    **engine: Any,
) -> None:
    """Measure tokens a second on random prompts.

    The bound is the time of the same matrix products alone with prepacked weights, the output matrix for sampled
    rows only, and beside it that of attention at the rates of this machine.
    """
    config = configured(model=model_dir(model, "--model"), **engine)
    from infergc.bench.figures import figures  # noqa: PLC0415 - heavy, and --help must not wait for it
    from infergc.bench.throughput import run  # noqa: PLC0415
    from infergc.bench.workload import Load  # noqa: PLC0415
    from infergc.cli.bench.throughput_tables import show  # noqa: PLC0415

    with told():
        report = run(config, Load(requests, input_len, output_len, config.seed), rounds, warmup, with_bound=with_bound)
    show(report)
    if json_file is not None:
        write_json(json_file, figures(report))
