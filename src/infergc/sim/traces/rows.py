"""A row of a trace, whatever its format, and the bounds that each holds to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infergc.wording import shown

MOST_TOKENS = 2**24  # of a prompt, of an output
_DIGITS = 12  # that a count may have: more is beyond the bounds whatever they are

Parse = Callable[[str], "Row"]  # of a line; raises RowError


class RowError(ValueError):
    """What is wrong with a row: its field, and what it may hold."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says.

    Attributes:
        micros: when the request came, in microseconds; from when on is the format's own affair.
        input_len: tokens of the prompt.
        output_len: tokens generated, at least 1.
        ids: of the prompt's blocks; none if the format knows none.
        session: "" for none.
    """

    micros: int
    input_len: int
    output_len: int
    ids: Sequence[int | str] = ()
    session: str = ""


@dataclass(frozen=True, slots=True)
class Reader:
    """How the rows of a file are read.

    Attributes:
        parse: makes a row of a line.
        header: whether the first line is none.
        timed: whether rows say when requests came.
        blocks: whether they say what prompts consist of.
    """

    parse: Parse
    header: bool = False
    timed: bool = True
    blocks: bool = False


def output_tokens(recorded: int) -> int:
    """Tokens that a request generates: none on record counts as one, since a computed prompt gives one."""
    return max(recorded, 1)


def count(field: str, text: str, least: int) -> int:
    """Read tokens of a CSV field.

    Raises:
        RowError: it holds something else than a whole number from ``least`` to ``MOST_TOKENS``.
    """
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS and least <= int(digits) <= MOST_TOKENS:
        return int(digits)
    raise RowError(f"{field}: {shown(text)} is not allowed; it must be {whole_number(least)}")


def whole_number(least: int) -> str:
    """The words for what a count of tokens may be."""
    return f"a whole number from {least} to {MOST_TOKENS}"
