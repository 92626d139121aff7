"""Times on the command line."""

from collections.abc import Callable

import click

from infergc.server.settings import MOST_SECONDS


def at_least(least: float) -> Callable[[click.Context, click.Parameter, float], float]:
    """A callback of an option in seconds: refuses what is less, and what no clock can wait for, as nan and inf."""

    def check(_: click.Context, __: click.Parameter, seconds: float) -> float:
        if least <= seconds <= MOST_SECONDS:
            return seconds
        raise click.BadParameter(f"{seconds} is not allowed; it must be ≥ {least} and ≤ {MOST_SECONDS}")

    return check
