"""What the options of ``infergc simulate`` mean, and what is said where they mean nothing."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from infergc.bench.json_file import cannot_write, check_writable
from infergc.sim.geometry import Geometry
from infergc.sim.named import requests_named
from infergc.sim.requests import TraceRequest
from infergc.sim.traces import BadRow, OptionError, TraceError, TraceOptions
from infergc.sim.transform import scale_arrivals
from infergc.sim.workloads import WorkloadError
from infergc.units import format_bytes, parse_bytes
from infergc.wording import shown

MOST_TOKENS = 1 << 30  # of a pool: some 700 MB of page tables with pages of 16 tokens
_MINUTES = 4_000_000  # tokens of output in one run
_TOKENS = re.compile(r"[0-9]+")
_PICTURES = (".png", ".svg", ".pdf")


def listed(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG001
    """Values that were given one by one or with commas between, each once.

    Raises:
        click.BadParameter: one of them is empty.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    if "" in parts:
        raise click.BadParameter(f"{shown(','.join(texts))} names nothing in one place; write {parameter.metavar}")
    return tuple(dict.fromkeys(parts))


def policies(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of retention policies.

    Raises:
        click.BadParameter: there is none of that name.
    """
    from infergc.engine.assembly import FORESEEING, RETENTIONS  # noqa: PLC0415 - heavy, and --help must not wait for it

    names, known = listed(context, parameter, texts), (*RETENTIONS, *FORESEEING)
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is no retention policy; there are {', '.join(known)}")
    return names


def check_plot(file: Path, other: Path | None = None) -> None:
    """See that a plot can be drawn there, before anything runs.

    Args:
        file: of the plot.
        other: that is written too.

    Raises:
        click.UsageError: the library is missing, the suffix says nothing, the file cannot be written, or is the other.
    """
    if other is not None and file.resolve() == other.resolve():
        raise click.UsageError(f"--plot: {file} is the file of --json too; name another")
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


def kv_bytes(capacity: str, model: Geometry) -> int:
    """A pool's size in bytes: digits alone are tokens.

    Raises:
        click.UsageError: it is neither tokens nor bytes.
    """
    try:
        return int(capacity) * model.kv_bytes_per_token if _TOKENS.fullmatch(capacity) else parse_bytes(capacity)
    except ValueError:  # Python also reads no number of more than 4300 digits
        raise click.UsageError(
            f"--capacity: {shown(capacity)} is neither tokens nor bytes; write for example 512000 or 20GiB"
        ) from None


def check_room(size: int, model: Geometry) -> None:
    """See that a pool of so many bytes has no more pages than can be kept count of.

    Raises:
        click.UsageError: it has.
    """
    if size > MOST_TOKENS * model.kv_bytes_per_token:
        most = format_bytes(MOST_TOKENS * model.kv_bytes_per_token)
        raise click.UsageError(
            f"--capacity: so large a pool is not simulated; at most {MOST_TOKENS:,} tokens are, {most} of {model.name}"
        )


def check_drawn(rate: float | None, seed: int | None) -> None:
    """See that a seed has times to draw.

    Raises:
        click.UsageError: it has not.
    """
    if seed is not None and rate is None:
        raise click.UsageError("--trace-seed: draws the times that --rate asks for; give --rate too")


def how_long(trace: str, requests: list[TraceRequest]) -> str:
    """What to say of a workload that takes minutes: each token of an output is simulated. "" if it does not."""
    tokens = sum(request.output_len * request.choices for request in requests)
    if tokens <= _MINUTES:
        return ""
    return f"{trace}: {tokens:,} tokens of output take minutes to simulate; --requests takes the first alone"


def slowed(trace: str, requests: list[TraceRequest], factor: float) -> list[TraceRequest]:
    """The requests so many times as late.

    Raises:
        click.UsageError: the factor is out of bounds, or there is nothing to stretch.
    """
    if factor not in (0, 1) and not requests[-1].arrival:
        raise click.UsageError(
            f"--slower: the requests of {Path(trace).name} all come at once: there is nothing to slow"
        )
    try:
        return scale_arrivals(requests, factor)
    except ValueError as error:
        raise click.UsageError(f"--slower: {error}") from None


def check_untimed(rate: float | None, slower: float) -> None:
    """See that nobody asks for times where there are none.

    Raises:
        click.UsageError: somebody does.
    """
    for flag, given in (("--rate", rate is not None), ("--slower", slower != 1)):
        if given:
            raise click.UsageError(f"{flag}: --replay cache has no times: prompts come one by one")


def requests_of(
    trace: str, options: Mapping[str, Any], *, skip_bad_rows: bool
) -> tuple[list[TraceRequest], list[BadRow]]:
    """The requests of a file, or of a workload such as ``chat:rate=2``; and the rows that were left out.

    Args:
        trace: the file or the workload.
        options: fields of ``TraceOptions``.
        skip_bad_rows: leave out rows that cannot be used.

    Raises:
        click.UsageError: it is neither, has rows that cannot be used, or an option is wrong or of no use for it.
    """
    try:
        return requests_named(trace, TraceOptions(**options), skip_bad_rows=skip_bad_rows)
    except OptionError as error:
        name, colon, why = str(error).partition(":")
        raise click.UsageError(f"--{name.replace('_', '-')}{colon}{why}") from None
    except (TraceError, WorkloadError) as error:
        helps = isinstance(error, TraceError) and error.bad_rows and not skip_bad_rows
        hint = "\n--skip-bad-rows leaves them out." if helps else ""
        raise click.UsageError(f"TRACE: {error}{hint}") from None
