"""How commands fail: one line on stderr; exit code 2 for what the user wrote, 1 for what went wrong."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import click

from infergc.config import ConfigError, EngineConfig, engine_config, flag
from infergc.params import ParameterError, SamplingParams

_OTHERS = re.compile(rf"\b({'|'.join(one.name for one in fields(SamplingParams) if '_' in one.name)})\b")
_FLAGS = {  # of fields that have none of their own name
    "structured_outputs.json": "--json-schema",
    "structured_outputs.regex": "--regex",
    "structured_outputs": "--json-schema or --regex",
    "prompt": "PROMPT",
}


class StartFailure(click.ClickException):
    """The command was well formed but could not be carried out."""

    exit_code = 1


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong with an engine while the block runs ends the command in a line.

    Raises:
        click.UsageError: a setting is wrong.
        StartFailure: the rest.
    """
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise StartFailure(str(error)) from error


@contextmanager
def generating() -> Iterator[None]:
    """What goes wrong with a request or its engine while the block runs ends the command in a line.

    Raises:
        click.UsageError: the request is not allowed.
        StartFailure: the rest.
    """
    try:
        yield
    except ParameterError as error:
        raise refused(error) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise StartFailure(str(error)) from error


def configured(**settings: object) -> EngineConfig:
    """The engine's configuration from a command's options.

    Raises:
        click.UsageError: naming the flag and what is allowed.
    """
    try:
        return engine_config(**settings)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def refused(error: ParameterError) -> click.UsageError:
    """What the command line says of a request that is not allowed: PROMPT or the flag in place of each field."""
    message = _OTHERS.sub(lambda other: _flag(other[0]), error.message)
    return click.UsageError(f"{_flag(error.field)}: {message}")


def _flag(field: str) -> str:
    return _FLAGS.get(field) or flag(field)
