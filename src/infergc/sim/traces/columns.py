"""Columns of a CSV file, by the names in its first line."""

import csv
from collections.abc import Callable, Sequence

from infergc.sim.traces.rows import RowError
from infergc.wording import shown


def columns(header: str, names: Sequence[str]) -> Callable[[str], list[str]] | None:
    """What takes the named columns out of a line; None if the first line does not name all of them.

    What is returned raises RowError where a line is not CSV or has not as many fields as the first.
    """
    found = [name.strip() for name in _fields(header)]
    if not set(names) <= set(found):
        return None
    places = [found.index(name) for name in names]

    def take(line: str) -> list[str]:
        fields = _fields(line)
        if len(fields) != len(found):
            raise RowError(f"{shown(line)} has {len(fields)} fields; it must have {len(found)}: {', '.join(found)}")
        return [fields[place] for place in places]

    return take


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise RowError(f"{shown(line)} is not CSV: {error}") from error
