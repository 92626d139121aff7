"""``--json``, which every measuring command has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from infergc.bench.json_file import cannot_write, check_writable, write_json
from infergc.cli.failures import StartFailure
from infergc.cli.grouped import option

_Function = TypeVar("_Function", bound=Callable[..., Any])


def json_option(heading: str) -> Callable[[_Function], _Function]:
    """The option, passed on as ``json_file``; a file that cannot be written is refused before anything runs."""
    return option(
        heading,
        "--json",
        "json_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        callback=_writable,
        help="Write the figures there too.",
    )


def write_told(file: Path, figures: dict[str, Any]) -> None:
    """Write the file of ``--json``; a full disk ends the command in a line.

    Raises:
        StartFailure: it cannot be written.
    """
    try:
        write_json(file, figures)
    except OSError as error:
        raise StartFailure(f"--json: {cannot_write(file, error)}") from None


def _writable(_: click.Context, __: click.Parameter, file: Path | None) -> Path | None:
    if file is None:
        return None
    try:
        check_writable(file)
    except OSError as error:
        raise click.UsageError(f"--json: {cannot_write(file, error)}") from None
    return file
