"""The tiers below the device in a heap dump: who has pages kept on the host, and what is being moved."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from infergc.cli.heap.owners import readable
from infergc.heap.tier_dump import UNUSED
from infergc.wording import counted

if TYPE_CHECKING:
    from rich.console import Console


def show_tiers(console: "Console", found: dict[str, Any], most: int) -> None:
    """Print the claims on the host tier, at most so many, transfers in flight, and the disk; nothing without tiers."""
    tiers = found["tiers"]
    if tiers is None:
        return
    _show_claims(console, tiers, most)
    for step in tiers["transfers"]:
        stored, loaded = step["stored"], step["loaded"]
        runs = counted(step["runs"], "run")
        console.print(f"Step {step['step']}: {stored} pages to the host, {loaded} to the device, in {runs}")
    if (disk := tiers["disk"]) is not None:
        moving = f"{disk['reading']} being read, {disk['writing']} being written"
        console.print(f"Disk tier: {counted(disk['pages'], 'page')}; {moving}")


def claims_of(found: dict[str, Any]) -> dict[str, Counter[str]]:
    """What is charged to each who has pages kept on the host, by what it is called."""
    tiers = found.get("tiers") or {"claims": []}
    charged = {_title(claim): Counter({UNUSED: claim["charged"]}) for claim in tiers["claims"]}
    return {what: pages for what, pages in charged.items() if pages.total()}


def _show_claims(console: "Console", tiers: dict[str, Any], most: int) -> None:
    from rich.table import Table  # noqa: PLC0415 - importing it takes longer than all of ours
    from rich.text import Text  # noqa: PLC0415

    if not tiers["claims"]:
        console.print("Nobody has a page kept on the host.")
        return
    every = sorted(tiers["claims"], key=lambda claim: (-claim["charged"], -claim["held"]))
    hidden = len(every) - most
    caption = f"and {counted(hidden, 'claim')} on less" if hidden > 0 else None
    table = Table(title="Kept on the host", caption=caption)
    for heading in ("for", "kind"):
        table.add_column(heading, overflow="fold")
    for heading in ("claimed", "held", "charged"):
        table.add_column(heading, justify="right")
    for claim in every[:most]:
        pages = [str(claim[figure]) for figure in ("claimed", "held", "charged")]
        table.add_row(Text(readable(claim["owner"])), claim["kind"], *pages)
    console.print(table)


def _title(claim: dict[str, Any]) -> str:
    return f"on the host: {claim['kind']} {readable(claim['owner'])}"
