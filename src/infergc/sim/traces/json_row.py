"""A line of JSON as a row: what all JSONL formats have in common, and the words for what is wrong with one."""

import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from infergc.sim.traces.rows import MOST_TOKENS, RowError, whole_number
from infergc.wording import shown

MOST_MILLIS = 10**13  # a time since 1970 fits until the year 2286
_MOST_NAME = 256  # characters of a session, of a hash

Name = Annotated[str, Meta(max_length=_MOST_NAME)]
_FIELD = re.compile(r"(?:`\$\.|field `)(\w+)")
_ALLOWED = {
    "timestamp": f"a number of milliseconds from 0 to {MOST_MILLIS}",
    "input_length": whole_number(1),
    "output_length": whole_number(0),
    "hash_ids": f"a list of whole numbers or of strings of at most {_MOST_NAME} characters",
    "session": f"a whole number or a string of at most {_MOST_NAME} characters",
}


class JsonRow(Struct):
    """Fields of every JSONL format; others are not looked at."""

    timestamp: Annotated[float, Meta(ge=0, le=MOST_MILLIS)]
    input_length: Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
    output_length: Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
    session: int | Name | None = None

    def micros(self) -> int:
        """When it came, in microseconds."""
        return round(self.timestamp * 1000)

    def session_name(self) -> str:
        """The session's name; "" for none."""
        return "" if self.session is None else str(self.session)


AnyRow = TypeVar("AnyRow", bound=JsonRow)


def decode(decoder: msgspec.json.Decoder[AnyRow], line: str) -> AnyRow:
    """Read a line.

    Raises:
        RowError: it is not JSON, or a field is missing or holds what it may not.
    """
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RowError(_fault(str(error), line)) from error


def _fault(said: str, line: str) -> str:
    """What is wrong with a line, from what the decoder said of it."""
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:  # the decoder may have stopped at a field before
        return f"{shown(line)} is not JSON that can be read: {error}"
    match = _FIELD.search(said)
    if match is None:
        return f"{shown(row)} is not allowed; a row must be a JSON object"
    field = match[1]
    if field not in row:
        return f"{field} is missing; it must be {_ALLOWED[field]}"
    return f"{field}: {shown(row[field])} is not allowed; it must be {_ALLOWED[field]}"
