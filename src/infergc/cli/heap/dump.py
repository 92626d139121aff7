"""``infergc heap dump``: who holds what in a running server's heap."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

import click

from infergc.bench.json_file import write_json
from infergc.cli.bench.json_option import json_option
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.heap.owners import owners_of, readable, title_of
from infergc.cli.heap.remote import call, server_options
from infergc.cli.heap.tiers import show_tiers
from infergc.units import format_bytes
from infergc.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

_OUTPUT = "Output"


@click.command(cls=GroupedCommand, short_help="Show who holds what.")
@server_options
@option(_OUTPUT, "--owners", default=20, type=click.IntRange(min=0), help="How many of the largest owners to show.")
@json_option(_OUTPUT)
def dump(url: SplitResult, admin_key: str | None, owners: int, json_file: Path | None) -> None:
    """Show pages by state and generation, and the largest owners.

    held counts every page that an owner holds; charged counts each page once, for the oldest owner. Pinned is what a
    session keeps between two requests. With a host tier: who has pages kept there, and what is being moved.
    """
    found = call("GET", url, "/v1/kv/heap", admin_key)
    from rich.console import Console  # noqa: PLC0415 - importing it takes longer than all of ours

    console = Console(highlight=False)
    for group in found["groups"]:
        size = format_bytes(group["capacity"] * group["page_bytes"])
        pages = counted(group["capacity"], "page")
        where = title_of(group)
        console.print(f"{where[0].upper()}{where[1:]}: {pages}, {size}, {group['fragmentation']:.0%} fragmented")
        console.print(_states(group))
    console.print(_owners(found, owners))
    show_tiers(console, found, owners)
    nodes = ", ".join(f"{number} {generation}" for generation, number in found["tree"]["nodes"].items())
    namespaces = counted(found["tree"]["namespaces"], "namespace")
    console.print(f"Prefix tree: {nodes} nodes in {namespaces}; step {found['step']}")
    console.print(_queue(found))
    if json_file is not None:
        write_json(json_file, found)


def _queue(found: dict[str, Any]) -> str:
    queue = found["queue"]
    now = f"{counted(queue['waiting'], 'request')} waiting"
    if queue["waits_for"]:
        now += f", the first for {queue['waits_for']}"
    waited = ", ".join(f"{seconds:.1f} for {reason}" for reason, seconds in found["queue_seconds"].items() if seconds)
    return f"Queue: {now}; seconds waited since the start: {waited or 'none'}"


def _states(group: dict[str, Any]) -> "Table":
    from rich.table import Table  # noqa: PLC0415

    table = Table("pages")
    generations = list(group["pages"]["live"])
    for heading in (*generations, "all"):
        table.add_column(heading, justify="right")
    for state, pages in group["pages"].items():
        row = [str(pages.get(generation, "")) for generation in generations]
        table.add_row(state.replace("_", " "), *row, str(sum(pages.values())))
    return table


def _owners(found: dict[str, Any], most: int) -> "Table | str":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    every = owners_of(found)
    if not every:
        return "Nobody holds a page."
    hidden = len(every) - most
    table = Table(title="Owners", caption=f"and {counted(hidden, 'owner')} with less" if hidden > 0 else None)
    for heading in ("owner", "kind"):
        table.add_column(heading, overflow="fold")
    for heading in ("held", "charged", *found["groups"][0]["pages"]["live"]):
        table.add_column(heading, justify="right")
    for owner in every[:most]:
        generations = [str(owner.charged[generation]) for generation in found["groups"][0]["pages"]["live"]]
        table.add_row(Text(readable(owner.name)), owner.what, str(owner.held), str(owner.pages), *generations)
    return table
