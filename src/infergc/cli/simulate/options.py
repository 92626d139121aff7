"""What the options of ``infergc simulate`` mean, and what is said where they mean nothing."""

import re
from pathlib import Path

import click

from infergc.bench.json_file import cannot_write, check_writable
from infergc.sim.named import requests_named
from infergc.sim.requests import TraceRequest
from infergc.sim.traces import BadRow, TraceError, TraceOptions
from infergc.sim.workloads import WorkloadError
from infergc.units import parse_bytes

_TOKENS = re.compile(r"\d+")
_PICTURES = (".png", ".svg", ".pdf")


def listed(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG001
    """Values that were given one by one or with commas between, each once."""
    return tuple(dict.fromkeys(part for text in texts for part in text.split(",") if part))


def policies(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of retention policies.

    Raises:
        click.BadParameter: there is none of that name.
    """
    from infergc.engine.assembly import RETENTIONS  # noqa: PLC0415 - heavy, and --help must not wait for it

    names = listed(context, parameter, texts)
    for name in names:
        if name not in RETENTIONS:
            raise click.BadParameter(f"{name!r} is no retention policy; there are {', '.join(RETENTIONS)}")
    return names


def check_plot(file: Path) -> None:
    """See that a plot can be drawn there, before anything runs.

    Raises:
        click.UsageError: the library is missing, the suffix says nothing, or the file cannot be written.
    """
    if file.suffix not in _PICTURES:
        raise click.UsageError(f"--plot: {file} must end in one of {', '.join(_PICTURES)}")
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - an optional extra
    except ImportError:
        raise click.UsageError("--plot: needs matplotlib; pip install 'infergc[plot]'") from None
    try:
        check_writable(file)
    except OSError as error:
        raise click.UsageError(f"--plot: {cannot_write(file, error)}") from None


def kv_bytes(capacity: str, token_bytes: int) -> int:
    """A pool's size in bytes: digits alone are tokens.

    Raises:
        click.UsageError: it is neither tokens nor bytes.
    """
    if _TOKENS.fullmatch(capacity):
        return int(capacity) * token_bytes
    try:
        return parse_bytes(capacity)
    except ValueError:
        raise click.UsageError(
            f"--capacity: {capacity!r} is neither tokens nor bytes; write for example 512000 or 20GiB"
        ) from None


def requests_of(trace: str, options: TraceOptions, *, skip_bad_rows: bool) -> tuple[list[TraceRequest], list[BadRow]]:
    """The requests of a file, or of a workload such as ``chat:rate=2``; and the rows that were left out.

    Raises:
        click.UsageError: it is neither, or has rows that cannot be used.
    """
    try:
        return requests_named(trace, options, skip_bad_rows=skip_bad_rows)
    except (TraceError, WorkloadError) as error:
        hint = "\n--skip-bad-rows leaves them out." if isinstance(error, TraceError) and error.bad_rows else ""
        raise click.UsageError(f"TRACE: {error}{hint}") from None
