"""``infergc heap diff``: what changed between two dumps."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from infergc.cli.heap.owners import Owner, owners_of, readable, title_of
from infergc.cli.heap.tiers import claims_of

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(short_help="Show what changed between two dumps.")
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
def diff(before: Path, after: Path) -> None:
    """Show which states and owners grew or shrank from dump BEFORE to dump AFTER, in pages by generation.

    The files are those of infergc heap dump --json.
    """
    from rich.console import Console  # noqa: PLC0415 - importing it takes longer than all of ours
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    older, newer = _load(before), _load(after)
    table = Table(title=f"Steps {older['step']} to {newer['step']}: pages more or less")
    table.add_column("what", overflow="fold")
    for heading in ("young", "survivor", "tenured", "all"):
        table.add_column(heading, justify="right")
    rows = [*_changes(_states(older), _states(newer)), *_changes(_owned(older), _owned(newer))]
    for what, change in rows:
        generations = [_signed(change[name]) for name in ("young", "survivor", "tenured")]
        table.add_row(Text(what), *generations, _signed(sum(change.values())))
    Console(highlight=False).print(table if rows else "Nothing changed.")


def _load(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        owners_of(found)
        _states(found)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.UsageError(f"{file}: is no heap dump; infergc heap dump --json {file} writes one") from None
    return dict(found)


def _states(found: dict[str, Any]) -> dict[str, Counter[str]]:
    return {
        f"{title_of(group).removeprefix('group ')}: {state.replace('_', ' ')}": Counter(pages)
        for group in found["groups"]
        for state, pages in group["pages"].items()
    }


def _owned(found: dict[str, Any]) -> dict[str, Counter[str]]:
    return {**{_title(owner): owner.charged for owner in owners_of(found)}, **claims_of(found)}


def _title(owner: Owner) -> str:
    return f"{owner.what} {readable(owner.name)}"


def _changes(before: dict[str, Counter[str]], after: dict[str, Counter[str]]) -> list[tuple[str, dict[str, int]]]:
    """What is not as it was: the largest growth first, the largest loss last."""
    found = []
    for what in dict.fromkeys([*before, *after]):
        old, new = before.get(what, Counter[str]()), after.get(what, Counter[str]())
        change = Counter({name: new[name] - old[name] for name in old | new})
        if any(change.values()):
            found.append((what, change))
    return sorted(found, key=lambda row: -sum(row[1].values()))


def _signed(change: int) -> str:
    return f"{change:+d}" if change else ""
