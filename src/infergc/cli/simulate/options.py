"""What the options of ``infergc simulate`` mean, and what is said where they mean nothing."""

import re
from pathlib import Path

import click

from infergc.sim.requests import TraceRequest
from infergc.sim.traces import BadRow, TraceError, TraceOptions, read_good_rows, read_trace
from infergc.sim.workloads import KINDS, WorkloadError, workload
from infergc.units import parse_bytes

_TOKENS = re.compile(r"\d+")


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
        if trace.partition(":")[0] in KINDS and not Path(trace).exists():
            return workload(trace), []
        if skip_bad_rows:
            return read_good_rows(trace, options)
        return read_trace(trace, options), []
    except (TraceError, WorkloadError) as error:
        raise click.UsageError(f"TRACE: {error}{_hint(error, trace)}") from None


def _hint(error: ValueError, trace: str) -> str:
    if isinstance(error, TraceError) and error.bad_rows:
        return "\n--skip-bad-rows leaves them out."
    if not Path(trace).exists():
        return f"; beside files there are the workloads {', '.join(KINDS)}"
    return ""
