"""``infergc plan``: how many requests fit, how fast they go, and what to switch on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infergc.cli.bench.json_option import json_option, write_told
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.quantities import COUNT, DURATION, SIZE
from infergc.config import PAGE_SIZES, ConfigError
from infergc.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from infergc.planner.plan import Plan

_WHAT = "What runs"
_LOAD = "Load"
_TARGETS = "Targets"
_ENGINE = "Engine"
_OUTPUT = "Output"
_TOLD = 5  # runs between two lines
_DTYPES = ("bfloat16", "float16", "float32")


@click.command(cls=GroupedCommand, short_help="How many requests fit, how fast, and what would help.")
@option(_WHAT, "--model", required=True, metavar="MODEL",
        help="A name such as llama-3-8b, a model directory, or a config.json. Weights are not read.")  # fmt: skip
@option(_WHAT, "--memory", metavar="BYTES", type=SIZE,
        help="Memory of the device: 90 % is for weights and KV. Default: what --device has.")  # fmt: skip
@option(_WHAT, "--kv-cache-memory", metavar="BYTES", type=SIZE, help="Memory for KV alone, instead of --memory.")
@option(_WHAT, "--device", metavar="NAME|FILE",
        help="A device such as a100-80g, or a file of infergc bench calibrate. Default: the listed device whose "
        "memory is nearest to --memory.")  # fmt: skip
@option(
    _WHAT,
    "--dtype",
    type=click.Choice(_DTYPES),
    help="Type of weights and KV. Default: the model's, but float32 for float16, as infergc serve has it.",
)
@option(_LOAD, "--input", "input_len", metavar="TOKENS", type=COUNT,
        help="Tokens in each prompt: 256, 2k (2000), 2Ki (2048).")  # fmt: skip
@option(_LOAD, "--output", "output_len", metavar="TOKENS", type=COUNT, help="Tokens in each output.")
@option(_LOAD, "--trace", metavar="FILE|WORKLOAD",
        help="A recorded trace, or a workload such as chat:requests=500. Lengths are its own then.")  # fmt: skip
@option(_TARGETS, "--ttft", metavar="TIME", type=DURATION, help="Time to the first token, for 90 % of requests: 1s.")
@option(_TARGETS, "--tpot", metavar="TIME", type=DURATION, help="Time for a token after it, for 90 %: 50ms.")
@option(_ENGINE, "--max-num-batched-tokens", type=click.IntRange(1, 1 << 20),
        help="Tokens in one step. Default: 8192 on a listed device, 512 with a calibration.")  # fmt: skip
@option(_ENGINE, "--block-size", type=click.Choice(list(map(str, PAGE_SIZES))), help="Tokens in a page. Default: 16.")
@json_option(_OUTPUT)
def plan(json_file: Path | None, **asked: Any) -> None:
    """Say how many requests fit at a time, how fast they go, what holds them back, and what to switch on.

    Every figure is found by simulating the engine itself: its scheduler and its heap, with the time of each step from
    a data sheet or from a calibration.
    """
    from rich.console import Console  # noqa: PLC0415 - heavy, and --help must not wait for it

    from infergc.planner.ask import question  # noqa: PLC0415
    from infergc.planner.plan import make_plan  # noqa: PLC0415

    try:
        asking = question(**asked)
        with _told(Console(stderr=True)) as progress:
            found = make_plan(asking, progress)
    except (ConfigError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    if json_file is not None:  # first: whoever reads the tables may stop reading
        write_told(json_file, found.plain())
    _show(found)


@contextmanager
def _told(console: "Console") -> Iterator[Callable[[int], None]]:
    """Say how many runs are over: on a terminal at each, elsewhere in a line now and then."""
    words = "simulating: some 20 to 60 runs, of up to half a minute each"
    if console.is_terminal:
        with console.status(words) as status:
            yield lambda runs: status.update(f"{words}; {counted(runs, 'run')} over")
        return
    click.echo(words, err=True)
    yield lambda runs: None if runs % _TOLD else click.echo(f"{counted(runs, 'run')} over", err=True)


def _show(found: "Plan") -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy

    from infergc.cli.plan_tables import advice_table, figures_table  # noqa: PLC0415

    console = Console(highlight=False)
    console.print(figures_table(found))
    console.print("\nWhat to switch on", style="bold")
    console.print(advice_table(found))
    console.print("\nTo paste", style="bold")
    click.echo(f"  {found.command}")
