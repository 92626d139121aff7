"""Which model a command runs: the one named, INFERGC_MODEL, or the one that comes with the project."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

import infergc
from infergc.cli.grouped import option

ENVIRONMENT = "INFERGC_MODEL"
_NO_CONFIG = "is not a model directory: it holds no config.json"
_NO_DIRECTORY = "is not a directory; models are read from disk, none is downloaded"
_BUNDLED = Path("models") / "demo"

_Function = TypeVar("_Function", bound=Callable[..., Any])


def model_option(heading: str) -> Callable[[_Function], _Function]:
    """Decorate a command with ``--model``, which arrives as a path or None, for ``model_dir``."""
    text = f"Directory of a Hugging Face model. Without it: {ENVIRONMENT}, else the bundled model."
    return option(heading, "--model", metavar="DIR", type=click.Path(path_type=Path), help=text)


def model_dir(named: Path | None, source: str) -> Path:
    """The directory of the model to run; ``source`` is what named it.

    Raises:
        click.UsageError: there is none there; the message says where one was looked for.
    """
    if named is not None:
        return _existing(named, source)
    if variable := os.environ.get(ENVIRONMENT):
        return _existing(Path(variable), ENVIRONMENT)
    bundled = bundled_model()
    if bundled is None:
        raise click.UsageError(
            f"no model given, {ENVIRONMENT} is not set, and no bundled model was found; "
            "name the directory of a Hugging Face model"
        )
    return bundled


def bundled_model() -> Path | None:
    """The model of the source tree that this package runs from, or of the directory it is called in."""
    roots = (Path(infergc.__file__).parents[2], Path.cwd())
    return next((root / _BUNDLED for root in roots if (root / _BUNDLED / "config.json").is_file()), None)


def _existing(path: Path, source: str) -> Path:
    if not (path / "config.json").is_file():
        what = _NO_CONFIG if path.is_dir() else _NO_DIRECTORY
        raise click.UsageError(f"{source}: {path} {what}")
    return path
