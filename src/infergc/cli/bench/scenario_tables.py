"""What ``infergc bench scenarios`` prints."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from infergc.units import GIB

_HEADINGS = (
    "peak, GiB", "smallest\npool, GiB", "tokens/s,\nample", "tokens/s,\nsmallest", "preempted\nthere",
    "tokens/s on\nthe device", "preempted\nthere",
)  # fmt: skip


def show(figures: dict[str, Any]) -> None:
    """Print tables of all scenarios."""
    console = Console(highlight=False)
    for scenario in figures["scenarios"]:
        console.print(_cells(scenario))
        console.print(_without(scenario))
        if "sweep" in scenario:
            console.print(_sweep(scenario["sweep"]))
        console.print(_matched(scenario["matched"]))
        for line in _bars(scenario["bars"]):
            console.print(line)
        console.print()
    for twin in figures.get("cpu", ()):
        console.print(_twin(twin))


def _cells(scenario: dict[str, Any]) -> Table:
    work = scenario["workload"]
    caption = f"{work['requests']} requests, mean {work['mean_input']:,.0f} tokens in, {work['mean_output']:,.0f} out"
    if "offered_rate" in work:
        caption += f"; {work['offered_rate']:.3f} requests a second, of {work['saturated_rate']:.3f} at most"
    if "system_tokens" in work:
        caption += f"; {work['system_tokens']} of them shared"
    table = _table(f"Scenario {scenario['scenario']}: {scenario['title']}", caption, ("system", *_HEADINGS))
    for cell in scenario["cells"]:
        table.add_row(*_row(cell))
    table.caption = "\n".join([caption, *_fragmentation(scenario["cells"])])
    return table


def _fragmentation(cells: Iterable[dict[str, Any]]) -> Iterable[str]:
    """External fragmentation of (b) in words."""
    for cell in cells:
        if cell["ample"]["holes"] is not None:
            spread, holes = _gib(cell["ample"]["spread_bytes"]), cell["ample"]["holes"]
            yield f"(b) with ample memory: addresses up to {spread} GiB, {holes:.1%} of them holes"
        for part, name in (("smallest", "the smallest pool"), ("device", "the device")):
            if cell[part]["lost"] is not None:
                yield f"(b) in {name}: {cell[part]['lost']:.1%} of it free when a buffer found no hole"


def _row(cell: dict[str, Any]) -> Iterable[str]:
    yield cell["title"]
    yield _gib(cell["ample"]["peak_bytes"])
    smallest, device = cell["smallest"], cell.get("device")
    yield _gib(smallest["pool_bytes"])
    yield f"{cell['ample']['throughput']:,.1f}"
    yield f"{smallest['throughput']:,.1f}"
    yield _share(smallest)
    if device is not None:
        yield f"{device['throughput']:,.1f}" if device["whole"] else "cannot"
        yield _share(device)


def _without(scenario: dict[str, Any]) -> Table:
    """What each technique contributes: ours without it, beside ours."""
    ours = scenario["cells"][-1]
    headings = ("Infer-GC …", "peak, GiB", "", "smallest pool, GiB", "", "tokens/s, ample", "")
    table = _table(f"Scenario {scenario['scenario']}: what each technique contributes", None, headings)
    for cell in (ours, *scenario["without"]):
        row = [cell["title"]]
        for part, figure in (("ample", "peak_bytes"), ("smallest", "pool_bytes"), ("ample", "throughput")):
            value, own = cell[part][figure], ours[part][figure]
            row += [f"{value:,.1f}" if figure == "throughput" else _gib(value), f"{100 * (value / own - 1):+.1f} %"]
        table.add_row(*row)
    return table


def _sweep(sweep: list[dict[str, Any]]) -> Table:
    names = [cell["title"].split()[0] for cell in sweep[0]["cells"]]
    headings = (
        "shared, tokens",
        "of the prompt",
        *(f"{name}\npeak, GiB" for name in names),
        "below (c)",
        "tokens/s\nover (c)",
    )
    table = _table("Scenario 3: share swept, ample memory", None, headings)
    for point in sweep:
        cells = {cell["system"]: cell["ample"] for cell in point["cells"]}
        ours, paged = cells["ours"], cells["paged"]
        peaks = (_gib(cell["peak_bytes"]) for cell in cells.values())
        table.add_row(
            f"{point['system_tokens']:,}", f"{point['share']:.0f} %", *peaks,
            f"{100 * (1 - ours['peak_bytes'] / paged['peak_bytes']):.1f} %",
            f"{100 * (ours['throughput'] / paged['throughput'] - 1):+.1f} %",
        )  # fmt: skip
    return table


def _matched(matched: dict[str, Any]) -> str:
    return (
        f"Infer-GC serves as fast as {matched['against']} with ample memory in {_gib(matched['pool_bytes'])} GiB: "
        f"{matched['below']:.1f} % below the smallest pool in which that does"
    )


def _bars(bars: list[dict[str, Any]]) -> Iterable[str]:
    for bar in bars:
        verdict = "met" if bar["met"] else "MISSED"
        yield f"{verdict}: {bar['figure']}: {bar['measured']:.1f} %, wanted {bar['wanted']:.1f} % or more"


def _twin(twin: dict[str, Any]) -> str:
    verdict = "equal in every step" if twin["equal"] else "NOT EQUAL"
    return (
        f"Scenario {twin['scenario']} in small on the CPU engine: {twin['steps']} steps, "
        f"peak {twin['peak_bytes']:,} bytes there and {twin['simulated_peak_bytes']:,} simulated; {verdict}"
    )


def _table(title: str, caption: str | None, headings: Iterable[str]) -> Table:
    table = Table(title=title, caption=caption)
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if at else "left")
    return table


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f}"


def _share(outcome: dict[str, Any]) -> str:
    return f"{outcome['preempted'] / outcome['requests']:.1%}"
