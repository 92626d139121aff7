"""Times on the command line."""

from collections.abc import Callable
from typing import Any

import click

from infergc.server.settings import MOST_SECONDS


def at_least(least: float) -> Callable[[click.Context, click.Parameter, float], float]:
    """A callback of an option in seconds: refuses what is less, and what no clock can wait for, as nan and inf."""

    def check(_: click.Context, __: click.Parameter, seconds: float) -> float:
        if least <= seconds <= MOST_SECONDS:
            return seconds
        raise click.BadParameter(f"{seconds:g} is not allowed; it must be from {least:g} to {MOST_SECONDS:,.0f} s")

    return check


class WholeSeconds(click.IntRange):
    """A whole number of seconds from 1 to a most."""

    def __init__(self, most: int) -> None:
        super().__init__(1, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; whatever else was given gets one message."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            words = f"it must be a whole number of seconds from {self.min} to {self.max}"
            self.fail(f"{value} is not allowed; {words}", param, ctx)
