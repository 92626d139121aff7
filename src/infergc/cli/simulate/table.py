"""The tables of ``infergc simulate``."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from infergc.units import format_bytes
from infergc.wording import counted

_NONE = "-"
_WIDEST = 1000  # columns: more than any table has


def show(runs: list[dict[str, Any]]) -> None:
    """Print for each trace what was found in the cache, what memory held, and how long requests took."""
    console = Console(highlight=False)
    for trace, group in groupby(runs, key=lambda run: run["trace"]):
        of_trace = list(group)
        console.print(f"{trace}: {_requests(of_trace)}", style="bold", soft_wrap=True)
        _print(console, _memory(of_trace))
        if any(run["host"] for run in of_trace):
            _print(console, _host(of_trace))
        if any(run["throughput"] for run in of_trace):
            _print(console, _times(of_trace))


def _print(console: Console, table: Table) -> None:
    """Print it as wide as its figures are: a terminal that is narrower breaks lines, and none is cut short."""
    table.width = console.measure(table, options=console.options.update_width(_WIDEST)).maximum
    console.print(table, crop=False)


def _requests(runs: list[dict[str, Any]]) -> str:
    count, finished = runs[0]["requests"], [run["finished"] for run in runs]
    least, most = min(finished), max(finished)
    if least == count:
        return f"{counted(count, 'request')}, all finished"
    return f"{counted(count, 'request')}, {least:,}{'' if least == most else f' to {most:,}'} finished"


def shortfalls(run: dict[str, Any]) -> Iterator[str]:
    """Lines on requests that did not run to their end; reasons and counts are in ``--json``."""
    where = f"of {run['requests']:,} requests of {run['trace']} in {run['capacity_tokens']:,} tokens"
    if run["refused"]:
        yield f"refused: {run['refused']:,} {where}: {next(iter(run['refusals']))}"
    if run["cut"]:
        yield f"cut: {run['cut']:,} {where}: their output ended where the pool did"


def _memory(runs: list[dict[str, Any]]) -> Table:
    table = _table("recomputed: tokens, after preemptions", "hits", "peak live", "cached", "preempted", "recomputed")
    for run in runs:
        table.add_row(
            run["policy"], f"{run['capacity_tokens']:,}", f"{run['prefix_hit_rate']:.1%}",
            format_bytes(run["peak_live_bytes"]), format_bytes(run["peak_cached_bytes"]), f"{run['preemptions']:,}",
            f"{run['recomputed_tokens']:,}",
        )  # fmt: skip
    return table


def _host(runs: list[dict[str, Any]]) -> Table:
    caption = "hits: share of prompt tokens that came from the host tier; copied: to it and from it"
    table = _table(caption, "host tokens", "hits", "swapped", "copied", "GB/s")
    for run in runs:
        host = run["host"]
        rate = host["copied_bytes"] / host["copy_seconds"] / 1e9 if host["copy_seconds"] else 0.0
        table.add_row(
            run["policy"], f"{run['capacity_tokens']:,}", f"{host['capacity_tokens']:,}", f"{host['hit_rate']:.1%}",
            f"{host['swaps']:,}", format_bytes(host["copied_bytes"]), _significant(rate),
        )  # fmt: skip
    return table


def _times(runs: list[dict[str, Any]]) -> Table:
    spreads = [f"{name}\n {rank}" for name in ("TTFT", "TPOT", "E2E") for rank in ("p50", "p99")]
    caption = "TTFT, E2E: s to the first and the last token; TPOT: ms for each between"
    table = _table(caption, "req/s", "tok/s", *spreads)
    for run in runs:
        speed = run["throughput"] or {"requests": 0.0, "output_tokens": 0.0}
        times = [cell for name, unit in (("ttft", 1), ("tpot", 1e3), ("e2e", 1)) for cell in _spread(run[name], unit)]
        cells = (f"{speed['requests']:.2f}", f"{speed['output_tokens']:,.0f}", *times)
        table.add_row(run["policy"], f"{run['capacity_tokens']:,}", *cells)
    return table


def _table(caption: str, *headings: str) -> Table:
    table = Table(caption=caption, box=SIMPLE_HEAD, padding=(0, 0), caption_justify="left", pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for heading in ("tokens", *headings):
        table.add_column(f" {heading}", justify="right", no_wrap=True)
    return table


def _spread(spread: dict[str, float] | None, unit: float) -> list[str]:
    if spread is None:
        return [_NONE, _NONE]
    return [_significant(spread[rank] * unit) for rank in ("p50", "p99")]


def _significant(number: float) -> str:
    """Three digits that count, and no exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
