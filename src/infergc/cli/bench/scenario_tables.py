"""What ``infergc bench scenarios`` prints."""

from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from infergc.units import GIB

_QUICK = "Quick: too few requests, and a coarse search: no figure compares with the bars or with those of a whole run"


_VERDICTS = {True: "met", False: "MISSED", None: "no verdict, quick"}


def show(figures: dict[str, Any]) -> None:
    """Print tables of all scenarios."""
    console = Console(highlight=False)
    for scenario in figures["scenarios"]:
        console.print(_heading(scenario, quick=figures["sizes"]["quick"]))
        console.print(_memory(scenario))
        console.print(_speed(scenario["cells"]))
        console.print(_without(scenario))
        if "sweep" in scenario:
            console.print(_sweep(scenario["sweep"]))
        console.print(_matched(scenario["matched"]))
        for line in _bars(scenario["bars"]):
            console.print(line)
        console.print()
    for twin in figures.get("cpu", ()):
        console.print(_twin(twin))


def _heading(scenario: dict[str, Any], *, quick: bool) -> str:
    """What was run, in words."""
    work = scenario["workload"]
    said = f"{work['requests']} requests, mean {work['mean_input']:,.0f} tokens in, {work['mean_output']:,.0f} out"
    if "offered_rate" in work:
        said += f"; {work['offered_rate']:.3f} requests a second, of {work['saturated_rate']:.3f} at most"
    if "system_tokens" in work:
        said += f"; {work['system_tokens']} of them shared"
    lines = [f"[bold]Scenario {scenario['scenario']}: {scenario['title']}[/bold]", said]
    return "\n".join([*lines, f"[bold]{_QUICK}[/bold]"] if quick else lines)


def _memory(scenario: dict[str, Any]) -> Table:
    """How much each system holds, and how far ours is below."""
    cells, ours = scenario["cells"], scenario["cells"][-1]
    caption = "\n".join(["GiB, and how far Infer-GC is below", *_fragmentation(cells)])
    table = _table(caption, ("memory", "peak", "below", "smallest\npool", "below"))
    for cell in cells:
        row = [cell["title"]]
        for part, figure in (("ample", "peak_bytes"), ("smallest", "pool_bytes")):
            value, own = cell[part][figure], ours[part][figure]
            row += [_gib(value), "" if cell is ours else f"{1 - own / value:.1%}"]
        table.add_row(*row)
    return table


def _speed(cells: Iterable[dict[str, Any]]) -> Table:
    """Output tokens a second, and the requests that were preempted."""
    headings = ("tokens/s", "ample", "smallest\npool", "pre-\nempted", "device", "pre-\nempted")
    table = _table(None, headings)
    for cell in cells:
        table.add_row(*_row(cell))
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
    smallest, device = cell["smallest"], cell.get("device")
    yield _rate(cell["ample"]["throughput"])
    yield _rate(smallest["throughput"])
    yield _share(smallest)
    if device is not None:
        yield _rate(device["throughput"]) if device["whole"] else "cannot"
        yield _share(device)


def _without(scenario: dict[str, Any]) -> Table:
    """What each technique contributes: ours without it, beside ours."""
    ours = scenario["cells"][-1]
    headings = ("what each technique contributes", "peak", "", "smallest\npool", "", "tokens/s", "")
    table = _table("GiB; tokens a second with ample memory", headings)
    for cell in (ours, *scenario["without"]):
        row = [cell["title"]]
        for part, figure in (("ample", "peak_bytes"), ("smallest", "pool_bytes"), ("ample", "throughput")):
            value, own = cell[part][figure], ours[part][figure]
            row += [_rate(value) if figure == "throughput" else _gib(value), f"{value / own - 1:+.1%}"]
        table.add_row(*row)
    return table


def _sweep(sweep: list[dict[str, Any]]) -> Table:
    names = [cell["title"].split()[0] for cell in sweep[0]["cells"]]
    headings = ("shared\ntokens", "of\nprompt", *names, "below\n(c)", "tokens/s\nover (c)")
    table = _table("The share swept: peaks in GiB with ample memory", headings)
    for point in sweep:
        cells = {cell["system"]: cell["ample"] for cell in point["cells"]}
        ours, paged = cells["ours"], cells["paged"]
        peaks = (_gib(cell["peak_bytes"]) for cell in cells.values())
        table.add_row(
            f"{point['system_tokens']:,}", f"{point['share']:.0f}%", *peaks,
            f"{1 - ours['peak_bytes'] / paged['peak_bytes']:.1%}",
            f"{ours['throughput'] / paged['throughput'] - 1:+.1%}",
        )  # fmt: skip
    return table


def _matched(matched: dict[str, Any]) -> str:
    return (
        f"Infer-GC serves as fast as {matched['against']} with ample memory in {_gib(matched['pool_bytes'])} GiB: "
        f"{matched['below']:.1f}% below the smallest pool in which that does"
    )


def _bars(bars: list[dict[str, Any]]) -> Iterable[str]:
    for bar in bars:
        verdict = _VERDICTS[bar["met"]]
        sign = "+" if bar["wanted"] < 0 else ""  # a difference that may go either way
        yield f"{verdict}: {bar['figure']}: {bar['measured']:{sign}.1f}%, wanted {bar['wanted']:{sign}.1f}% or more"


def _twin(twin: dict[str, Any]) -> str:
    verdict = "equal in every step" if twin["equal"] else "NOT EQUAL"
    return (
        f"Scenario {twin['scenario']} in small on the CPU engine: {twin['steps']} steps, "
        f"peak {twin['peak_bytes']:,} bytes there and {twin['simulated_peak_bytes']:,} simulated; {verdict}"
    )


def _table(caption: str | None, headings: Iterable[str]) -> Table:
    table = Table(caption=caption, box=SIMPLE_HEAD, padding=(0, 0), caption_justify="left", pad_edge=False)
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if at else "left", no_wrap=True)
    return table


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f}"


def _rate(tokens: float) -> str:
    return f"{tokens:,.1f}" if tokens < 1000 else f"{tokens:,.0f}"


def _share(outcome: dict[str, Any]) -> str:
    return f"{outcome['preempted'] / outcome['requests']:.1%}"
