"""The tables of ``infergc simulate``."""

from typing import Any

from rich.console import Console
from rich.table import Table

from infergc.units import format_bytes

_NONE = "-"


def show(runs: list[dict[str, Any]]) -> None:
    """Print a row for each run: what was found in the cache, what memory held, and how long requests took."""
    console = Console(highlight=False)
    console.print(_memory(runs))
    if any(run["replay"] == "served" for run in runs):
        console.print(_times([run for run in runs if run["replay"] == "served"]))


def _memory(runs: list[dict[str, Any]]) -> Table:
    table = Table(
        title="What was found in the cache, and what memory held",
        caption="Hits: share of the prompts' pages. Recomputed: tokens computed again after a preemption.",
    )
    for heading in ("trace", "policy"):
        table.add_column(heading, overflow="fold")
    for heading in ("tokens", "requests", "finished", "hits", "peak live", "cached", "preempted", "recomputed"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(
            run["trace"], run["policy"], f"{run['capacity_tokens']:,}", f"{run['requests']:,}",
            f"{run['finished']:,}", f"{run['prefix_hit_rate']:.1%}", format_bytes(run["peak_live_bytes"]),
            format_bytes(run["peak_cached_bytes"]), f"{run['preemptions']:,}", f"{run['recomputed_tokens']:,}",
        )  # fmt: skip
    return table


def _times(runs: list[dict[str, Any]]) -> Table:
    table = Table(
        title="Time, simulated",
        caption="TTFT: time to first token, TPOT: a token after it, E2E: to the last; seconds, median and 99th "
        "percentile.",
    )
    for heading in ("trace", "policy"):
        table.add_column(heading, overflow="fold")
    for heading in ("tokens", "req/s", "out tok/s", "TTFT", "p99", "TPOT", "p99", "E2E", "p99"):
        table.add_column(heading, justify="right")
    for run in runs:
        speed = run["throughput"] or {"requests": 0.0, "output_tokens": 0.0}
        spreads = [cell for name in ("ttft", "tpot", "e2e") for cell in _spread(run[name])]
        table.add_row(
            run["trace"], run["policy"], f"{run['capacity_tokens']:,}", f"{speed['requests']:.2f}",
            f"{speed['output_tokens']:,.0f}", *spreads,
        )  # fmt: skip
    return table


def _spread(spread: dict[str, float] | None) -> list[str]:
    return [_NONE, _NONE] if spread is None else [f"{spread['p50']:.3g}", f"{spread['p99']:.3g}"]
