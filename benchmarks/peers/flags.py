"""Values of flags that the comparisons share: what is wrong is refused by the flag's name before minutes are spent."""

import shutil
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from infergc.bench.json_file import cannot_write, check_writable


def positive(text: str) -> int:
    """Read a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def sizes(least: int, most: int) -> Callable[[str], list[int]]:
    """What reads whole numbers within these bounds, separated by commas; it sorts them and drops repeated ones."""

    def read(text: str) -> list[int]:
        parts = text.split(",")
        if not all(part.isdecimal() and least <= int(part) <= most for part in parts):
            raise ArgumentTypeError(f"{text!r} is not a list of whole numbers from {least} to {most}, as 1024,4096")
        return sorted({int(part) for part in parts})

    return read


def interpreter(text: str) -> str:
    """A program that can be run."""
    if shutil.which(text) is None:
        raise ArgumentTypeError(f"{text} cannot be run")
    return text


def json_file(text: str) -> Path:
    """A file that can be written."""
    file = Path(text)
    try:
        check_writable(file)
    except OSError as error:
        raise ArgumentTypeError(cannot_write(file, error)) from None
    return file
