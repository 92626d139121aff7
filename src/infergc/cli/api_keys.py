"""The API keys of a command line: those given one by one, and those in files."""

from collections.abc import Iterable
from pathlib import Path

import click


def api_keys(given: Iterable[str], files: Iterable[Path]) -> tuple[str, ...]:
    """All keys, each once.

    Args:
        given: of ``--api-key``.
        files: of ``--api-key-file``: a key a line; lines that are empty or begin with "#" are passed over.

    Raises:
        click.UsageError: a key is empty or has a blank in it; a file cannot be read, or has no key.
    """
    keys = [_key(key, "--api-key") for key in given]
    for path in files:
        keys += _read(path)
    return tuple(dict.fromkeys(keys))


def _read(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--api-key-file: cannot read {path}: {error}") from None
    keys = [
        _key(line, f"--api-key-file: {path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    ]
    if not keys:
        raise click.UsageError(f"--api-key-file: {path} holds no key; leave it out to let everyone in")
    return keys


def _key(key: str, source: str) -> str:
    """The key is not shown: what is on the screen may be in a log."""
    if not key:
        raise click.UsageError(f"{source}: a key must not be empty")
    if any(letter.isspace() for letter in key):
        raise click.UsageError(f"{source}: a key must not have blanks in it; remarks stand on lines of their own")
    return key
