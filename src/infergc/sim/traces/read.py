"""Reads a recorded trace of whatever format into requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import isfinite
from pathlib import Path

from infergc.sim.draws import MICROS, Draws
from infergc.sim.requests import TraceRequest
from infergc.sim.traces import azure, hash_ids, lengths, servegen
from infergc.sim.traces.blocks import LineRow, Numbering, SizeError, deduce, fits, misfit
from infergc.sim.traces.errors import BadRow, OptionError, TraceError, refusal
from infergc.sim.traces.lines import numbered_lines
from infergc.sim.traces.rows import MOST_TOKENS, Reader, RowError
from infergc.wording import shown

MOST_ROWS = 2**22
_READERS = (hash_ids.reader, servegen.reader, azure.reader, lengths.reader)
_KNOWN = (
    "JSON rows with timestamp, input_length, output_length and perhaps hash_ids; "
    f"CSV with the columns {', '.join(azure.COLUMNS)}; CSV with the columns {', '.join(lengths.COLUMNS)}"
)


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What a trace does not say of itself.

    Attributes:
        block_tokens: tokens in a block of a hash_ids trace; None to find out from its rows.
        rate: requests a second, by a Poisson process, where a trace has no times; None for all at once.
        seed: of that process.

    Raises:
        OptionError: a field is out of bounds.
    """

    block_tokens: int | None = None
    rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.block_tokens is not None and not 1 <= self.block_tokens <= MOST_TOKENS:
            raise OptionError(f"block_tokens: {self.block_tokens} is not allowed; it must be from 1 to {MOST_TOKENS}")
        if self.rate is not None and not (isfinite(self.rate) and 1e-6 <= self.rate <= MICROS):
            raise OptionError(f"rate: {self.rate} is not allowed; it must be from 1e-6 to {MICROS} requests a second")


_DEFAULTS = TraceOptions()


def read_trace(path: str | Path, options: TraceOptions = _DEFAULTS) -> list[TraceRequest]:
    """Requests of a recorded trace, plain or gzip; the format is found from the first line.

    They come in the order of their arrivals, which count from the first; those that came together stay in the
    order of the file.

    Args:
        path: of the file.
        options: what it does not say of itself.

    Raises:
        TraceError: it cannot be read, is of no known format, or has bad rows, the first of which are named.
        OptionError: an option is given that it has no use for.
    """
    path = Path(path)
    requests, bad, rows = _read(path, options)
    if bad:
        raise refusal(path, bad, rows, _KNOWN)
    return requests


def read_good_rows(path: str | Path, options: TraceOptions = _DEFAULTS) -> tuple[list[TraceRequest], list[BadRow]]:
    """As ``read_trace``, but rows that cannot be used are left out, and returned beside the requests.

    Raises:
        TraceError, OptionError: as there, but for bad rows only if no others are left.
    """
    path = Path(path)
    requests, bad, rows = _read(path, options)
    if not requests:
        raise refusal(path, bad, rows, _KNOWN)
    return requests, bad


def _read(path: Path, options: TraceOptions) -> tuple[list[TraceRequest], list[BadRow], int]:
    reader, rows, bad = _parse(path, options)
    count = len(rows) + len(bad)
    if not count:
        raise TraceError(path, "it has no rows")
    rows.sort(key=lambda row: row[1].micros)
    if not (reader.blocks and rows):
        return _without_blocks(rows, _arrivals(rows, reader, options)), bad, count
    try:
        size = options.block_tokens or deduce(rows)
    except SizeError as error:
        raise TraceError(path, str(error)) from error
    bad += [misfit(line, row, size) for line, row in rows if not fits(row, size)]
    rows = [(line, row) for line, row in rows if fits(row, size)]
    return _with_blocks(rows, _arrivals(rows, reader, options), size), sorted(bad, key=lambda row: row.line), count


def _parse(path: Path, options: TraceOptions) -> tuple[Reader, list[LineRow], list[BadRow]]:
    """The good rows with their lines, and the bad ones."""
    lines = numbered_lines(path)
    head = next(lines, None)
    if head is None:
        raise TraceError(path, "it is empty")
    reader = _reader(path, head[1])
    _check_used(path, reader, options)
    rows: list[LineRow] = []
    bad: list[BadRow] = []
    for number, line in lines if reader.header else chain([head], lines):
        if len(rows) + len(bad) == MOST_ROWS:
            raise TraceError(path, f"it has more than {MOST_ROWS} rows, which is the most allowed")
        try:
            rows.append((number, reader.parse(line.decode())))
        except UnicodeDecodeError:
            bad.append(BadRow(number, "it is not UTF-8 text"))
        except RowError as error:
            bad.append(BadRow(number, str(error)))
    return reader, rows, bad


def _reader(path: Path, first: bytes) -> Reader:
    try:
        text = first.decode()
    except UnicodeDecodeError as error:
        raise TraceError(path, "it is neither UTF-8 text nor gzip of such text") from error
    try:
        reader = next(filter(None, (find(text) for find in _READERS)), None)
    except RowError:  # not even CSV
        reader = None
    if reader is None:
        raise TraceError(path, f"it begins with {shown(text)}, as no known trace does; known are: {_KNOWN}")
    return reader


def _check_used(path: Path, reader: Reader, options: TraceOptions) -> None:
    """Let nobody believe that an option does what it does not."""
    if reader.timed and options.rate is not None:
        raise OptionError(f"rate: is for traces without times; {path} has its own")
    if not reader.blocks and options.block_tokens is not None:
        raise OptionError(f"block_tokens: is for traces with hash_ids; {path} has none")


def _arrivals(rows: Sequence[LineRow], reader: Reader, options: TraceOptions) -> list[float]:
    """Seconds after the first."""
    if reader.timed:
        return [(row.micros - rows[0][1].micros) / MICROS for _, row in rows]
    if options.rate is None:
        return [0.0] * len(rows)
    starts = Draws("lengths", options.seed).starts(options.rate)
    return [micros / MICROS for micros in islice(starts, len(rows))]


def _without_blocks(rows: Sequence[LineRow], arrivals: Sequence[float]) -> list[TraceRequest]:
    return [
        TraceRequest(arrival, row.input_len, row.output_len, session=row.session)
        for (_, row), arrival in zip(rows, arrivals, strict=True)
    ]


def _with_blocks(rows: Sequence[LineRow], arrivals: Sequence[float], size: int) -> list[TraceRequest]:
    numbering = Numbering()
    return [
        TraceRequest(arrival, row.input_len, row.output_len, numbering.of(row.ids), size, row.session)
        for (_, row), arrival in zip(rows, arrivals, strict=True)
    ]
