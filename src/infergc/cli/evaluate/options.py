"""What the options of ``infergc eval`` mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from infergc.units import parse_count
from infergc.wording import shown

ALL, NONE = "all", "none"
MOST_TOKENS = 1 << 20


def task_names(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:  # noqa: ARG001
    """Names of tasks; whether there are such, the plan finds out."""
    from infergc.evaluation.tasks import TASKS  # noqa: PLC0415 - heavy, and --help must not wait for it

    names = _parts(text)
    if names == (ALL,):
        return tuple(TASKS)
    return () if names == (NONE,) else names


def lengths(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:  # noqa: ARG001
    """Counts of tokens."""
    return tuple(_numbers(text, parse_count, 1, MOST_TOKENS))


def depths(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:  # noqa: ARG001
    """Numbers from 0 to 1."""
    return tuple(_numbers(text, _number, 0, 1))


def make_folder(context: click.Context, parameter: click.Parameter, folder: Path) -> Path:  # noqa: ARG001
    """Make it, if it is not there: that it cannot be is told before anything is measured.

    Raises:
        click.BadParameter: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"cannot make the folder {folder}: {error.strerror}") from None
    return folder


def _numbers(text: str, read: Callable[[str], Any], low: float, high: float) -> list[Any]:
    found = []
    for part in _parts(text):
        try:
            number = read(part)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if not low <= number <= high:
            raise click.BadParameter(f"{shown(part)} is not allowed; it must be from {low} to {high}")
        found.append(number)
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a number; write for example 0.5") from None


def _parts(text: str) -> tuple[str, ...]:
    """What stands between commas, each once."""
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise click.BadParameter(f"{shown(text)} names nothing in one place; write values with commas between")
    return tuple(dict.fromkeys(parts))
