"""What people write for sizes, counts and times on a command line."""

from collections.abc import Callable
from typing import TypeVar

import click

from infergc.units import parse_bytes, parse_count, parse_seconds
from infergc.wording import shown

Number = TypeVar("Number", bound=float)

_LONGEST = 100  # characters: a number of hundreds of digits is beyond every type


class Quantity(click.ParamType[Number]):
    """A number with a unit, above 0 and within reason.

    Args:
        name: of what it is, as ``--help`` has it.
        parse: reads it, and raises ``ValueError`` with what may be written.
        most: that is allowed, as people write it.
    """

    def __init__(self, name: str, parse: Callable[[str], Number], most: str) -> None:
        self.name = name
        self._parse = parse
        self._most = most

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Number:
        """Read it."""
        if not isinstance(value, str):
            return value  # type: ignore[return-value] # click passes a default or a converted value again
        try:
            number = None if len(value) > _LONGEST else self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if number is None or not 0 < number <= self._parse(self._most):
            self.fail(f"{shown(value)} is not allowed; it must be more than 0 and at most {self._most}", param, ctx)
        return number


SIZE = Quantity("bytes", parse_bytes, "1024TiB")
COUNT = Quantity("count", parse_count, "16Mi")
DURATION = Quantity("time", parse_seconds, "10000min")
