"""``infergc bench control``: what planning, booking and telling cost, with no model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infergc.bench.json_file import write_json
from infergc.cli.bench.json_option import json_option
from infergc.cli.grouped import GroupedCommand, option
from infergc.config import ConfigError

if TYPE_CHECKING:
    from infergc.bench.control import Result

_LOAD = "Load"
_ENGINE = "Engine"
_OUTPUT = "Output"
_POSITIVE = click.IntRange(min=1)
_MOST_SEQUENCES = 4096  # what the engine allows


def _counts(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    """Read comma-separated counts of sequences."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of integers; write for example 64,256,1024") from None
    wrong = [count for count in counts if not 1 <= count <= _MOST_SEQUENCES]
    if wrong:
        raise click.BadParameter(f"{wrong[0]} is not allowed; each must be 1 to {_MOST_SEQUENCES}")
    return tuple(dict.fromkeys(counts))


@click.command(cls=GroupedCommand, short_help="Scheduling, heap, prefix cache, news: no model.")
@option(_LOAD, "--running", metavar="N,N,…", default="64,256,1024", callback=_counts,
        help="Most sequences that run, one load for each.")  # fmt: skip
@option(_LOAD, "--input-len", default=512, type=_POSITIVE, help="Tokens in each prompt.")
@option(_LOAD, "--output-len", default=128, type=_POSITIVE, help="Tokens in each output; in churn their mean.")
@option(_LOAD, "--shared-prefix", default=0, type=click.IntRange(min=0), help="First tokens that all prompts share.")
@option(_LOAD, "--waves", default=4, type=_POSITIVE, help="Requests for each running sequence, in churn.")
@option(_LOAD, "--seed", default=0, type=click.IntRange(min=0), help="Draws prompts and lengths.")
@option(_ENGINE, "--block-size", default=16, type=_POSITIVE, help="Tokens in a page: 8, 16, 32 or 64.")
@option(_ENGINE, "--max-num-batched-tokens", "batched_tokens", default=8192, type=_POSITIVE,
        help="Most tokens in a step; never less than sequences.")  # fmt: skip
@option(_ENGINE, "--slack", default=1.25, type=float,
        help="Pages in the pool over pages that running sequences take, 1 to 100.")  # fmt: skip
@option(_ENGINE, "--pipeline-depth", default=2, type=click.IntRange(1, 2), help="Steps in flight.")
@json_option(_OUTPUT)
def control(running: tuple[int, ...], json_file: Path | None, **load: Any) -> None:
    """Measure the control plane: scheduling, heap, prefix cache, news for clients and counters.

    Requests run through the whole engine, but for a model: tokens are made up, and what that takes is left out
    of the figures and shown beside them. In lockstep all requests start together; in churn they start and end
    all the time and the prefix cache is full.
    """
    from infergc.bench.control import SCENARIOS, ControlLoad, measure, plain  # noqa: PLC0415 - heavy

    try:
        loads = [ControlLoad(count, **load) for count in running]
        for each in loads:
            each.check()
        results = [measure(each, scenario) for each in loads for scenario in SCENARIOS]
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    _show(results)
    if json_file is not None:
        write_json(json_file, plain(results))


def _show(results: "list[Result]") -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    load = results[0].load
    table = Table(
        title=f"Control plane: {load.input_len} tokens in, {load.output_len} out, pages of {load.block_size}",
        caption="p99: 99th percentile. Overall has the arrival of the requests.\n"
        "Made up: µs a token of making tokens up, which no other figure has.",
    )
    table.add_column("running", justify="right")
    table.add_column("load", no_wrap=True)
    for heading in ("steps", "median, µs a step", "p99, µs a step", "µs a token", "made up"):
        table.add_column(heading, justify="right")
    for result in results:
        for name, part in (("decode", result.decode), ("overall", result.overall)):
            if part is not None:
                steps = part.us_per_step
                figures = (steps.median, steps.p99, part.us_per_token, part.executor_us_per_token)
                cells = [f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}" for figure in figures]
                table.add_row(str(result.load.running), f"{result.scenario}, {name}", f"{steps.n:,}", *cells)
    console = Console(highlight=False)
    console.print(table)
    for line in _growth(results):
        console.print(line)


def _growth(results: "list[Result]") -> list[str]:
    """How the median step grew from the fewest sequences to the most, by scenario."""
    lines = []
    for scenario in dict.fromkeys(result.scenario for result in results):
        of_one = sorted((each for each in results if each.scenario == scenario), key=lambda each: each.load.running)
        first, last = of_one[0], of_one[-1]
        times = last.load.running / first.load.running
        if times > 1:
            grown = last.overall.us_per_step.median / first.overall.us_per_step.median
            lines.append(f"{scenario}: {times:.3g} times the sequences took {grown:.3g} times as long a step (median)")
    return lines
