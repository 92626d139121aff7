"""Azure CSV: date-times and lengths of Microsoft's inference traces (Patel et al., Splitwise, ISCA 2024)."""

from datetime import UTC, datetime, timedelta

from infergc.sim.traces.columns import columns
from infergc.sim.traces.rows import Reader, Row, RowError, count, output_tokens
from infergc.wording import shown

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def reader(first: str) -> Reader | None:
    """How to read a file that begins with this line; None if it is of another format."""
    take = columns(first, COLUMNS)
    if take is None:
        return None

    def parse(line: str) -> Row:
        time, given, generated = take(line)
        return Row(_micros(time), count(COLUMNS[1], given, 1), output_tokens(count(COLUMNS[2], generated, 0)))

    return Reader(parse, header=True)


def _micros(text: str) -> int:
    try:
        time = datetime.fromisoformat(text.strip())  # digits beyond the microsecond are dropped
    except ValueError as error:
        allowed = "a date and time such as 2023-11-16 18:17:03.9799600"
        raise RowError(f"{COLUMNS[0]}: {shown(text)} is not allowed; it must be {allowed}") from error
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
