"""What people write for sizes, counts and times on a command line."""

from collections.abc import Callable
from typing import TypeVar

import click

from infergc.units import parse_bytes, parse_count, parse_seconds

Number = TypeVar("Number", bound=float)


class Quantity(click.ParamType[Number]):
    """A number with a unit, above 0.

    Args:
        name: of what it is, as ``--help`` has it.
        parse: reads it, and raises ``ValueError`` with what may be written.
    """

    def __init__(self, name: str, parse: Callable[[str], Number]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Number:
        """Read it."""
        if not isinstance(value, str):
            return value  # type: ignore[return-value] # click passes a default or a converted value again
        try:
            number = self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not number > 0:
            self.fail(f"{value} is not allowed; it must be more than 0", param, ctx)
        return number


SIZE = Quantity("bytes", parse_bytes)
COUNT = Quantity("count", parse_count)
DURATION = Quantity("time", parse_seconds)
