"""The request log: a line of JSON for each HTTP request when it is over. docs/observability.md has the fields."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time

import msgspec

from infergc.server.answers.generation import Report
from infergc.server.observing.line_writer import LineWriter
from infergc.server.observing.observed import Observer
from infergc.server.observing.record import Record

STDERR = "-"
_MOST_TEXT = 256  # characters of what clients choose


class Line(msgspec.Struct, omit_defaults=True):
    """One line; what does not apply to a request is left out."""

    time: str
    request_id: str
    method: str
    path: str
    status: int
    e2e_ms: float | None
    error: str = ""
    param: str | None = None
    client_left: bool = False
    tenant: str = ""
    model: str | None = None
    stream: bool | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reasons: list[str | None] = []
    queue_ms: float | None = None
    ttft_ms: float | None = None
    itl_mean_ms: float | None = None
    itl_max_ms: float | None = None
    preemptions: int | None = None


class Lost(msgspec.Struct):
    """The line that stands where lines could not be written."""

    time: str
    lost_lines: int


@contextmanager
def request_log(place: str, model: str, say: Callable[[str], None]) -> Iterator[Observer]:
    """An observer that writes a line for each request.

    Args:
        place: a file that is appended to, or "-" for stderr.
        model: the model's name in the API.
        say: is called with what the operator should know, from another thread.

    Raises:
        ConfigError: it cannot be written to.
    """
    writer = LineWriter(None if place == STDERR else Path(place), say, _lost)

    def log(record: Record) -> None:
        writer.put(_encode(line_of(record, model)) + b"\n")

    try:
        yield log
    finally:
        writer.close()


def line_of(record: Record, model: str) -> Line:
    """The line of a request that is over."""
    line = Line(
        _timestamp(record.time),
        record.request_id[:_MOST_TEXT],
        record.method,
        record.path[:_MOST_TEXT],
        record.status,
        _millis(record.ended - record.arrival),
        record.error,
        record.param,
        record.has_left,
        record.tenant,
    )
    if record.generation is not None:
        line.model, line.stream = model, record.is_streamed
        _add(line, record.generation.report())
    return line


def _add(line: Line, report: Report) -> None:
    usage = report.usage
    line.prompt_tokens, line.completion_tokens = usage.prompt_tokens, usage.completion_tokens
    line.cached_tokens = usage.prompt_tokens_details.cached_tokens
    line.finish_reasons = report.finish_reasons
    line.preemptions = report.preemptions
    line.queue_ms, line.ttft_ms = _millis(report.queued), _millis(report.first)
    line.itl_mean_ms, line.itl_max_ms = _millis(report.between), _millis(report.longest)


def _lost(lines: int) -> bytes:
    return _encode(Lost(_timestamp(time()), lines)) + b"\n"


def _millis(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_encode = msgspec.json.Encoder().encode
