"""The tables of ``infergc eval``."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from infergc.units import format_bytes

UNUSABLE = "unusable"
_TEXT_HEADINGS = ("perplexity", "of full KV", "KL, nats", "KL p99", "same top")
_RECALL_HEADINGS = ("length", "recall", "of full KV", "change", "KV held", "")


def show(results: dict[str, Any]) -> None:
    """Print them."""
    console = Console(highlight=False)
    for line in _settings(results):
        console.print(line)
    if results["text"] is not None:
        console.print(_text(results["text"]))
    if results["retrieval"]:
        console.print(_retrieval(results["retrieval"]))
        if not all(row["usable"] for row in results["retrieval"]):
            console.print(f"{UNUSABLE}: full KV itself scores under 95 % there, which leaves nothing to compare with")
        console.print("KV held: beside full KV")
    console.print("Under each mean: its 95 % interval over seeds")


def _settings(results: dict[str, Any]) -> list[str]:
    lossy = ", ".join(f"{name} {value}" for name, value in results["lossy"].items())
    lines = [f"{results['model']['name']}, {lossy or 'no lossy setting: both engines are alike'}"]
    own, full = (results["kv"][role]["bytes_per_token"] for role in ("variant", "reference"))
    lines.append(f"KV of a token: {format_bytes(round(own))}, in full precision {format_bytes(round(full))}")
    if preempted := _preempted(results):
        lines.append(f"{preempted} preemptions: KV was computed anew, not decoded; give more --kv-cache-memory")
    return lines


def _preempted(results: dict[str, Any]) -> int:
    in_text = results["text"]["preemptions"] if results["text"] else 0
    return int(in_text + sum(row["preemptions"] for row in results["retrieval"]))


def _text(text: dict[str, Any]) -> Table:
    source = ", made up: their perplexity says little" * text["made_up"]
    windows = f"{text['windows']} window{'s' * (text['windows'] > 1)}"
    table = _table(f"Text decoded token by token, {windows}{source}", "from token", _TEXT_HEADINGS)
    for row in text["by_position"]:
        table.add_row(f"{row['from']:,}", *_figures(row))
    table.add_row("all", *_figures(text))
    return table


def _figures(row: dict[str, Any]) -> list[str]:
    return [
        _with(row["perplexity"], ".4g"),
        _with(row["reference_perplexity"], ".4g"),
        _with(row["kl"], ".2g"),
        f"{row['kl']['p99']:.2g}",
        _with(row["agreement"], ".3f"),
    ]


def _retrieval(rows: list[dict[str, Any]]) -> Table:
    table = _table("Recall, asked on caches that were there before the questions", "task", _RECALL_HEADINGS)
    for row in rows:
        figures = (_with(row[name], ".0%") for name in ("score", "reference_score", "difference"))
        held = f"{row['held_bytes'] / row['reference_held_bytes']:.0%}"
        mark = "" if row["usable"] else UNUSABLE
        table.add_row(row["task"], f"{row['length']:,}", *figures, held, mark)
    return table


def _table(title: str, first: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title_justify="left")
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _with(figure: dict[str, Any], form: str) -> str:
    """A mean, and under it its interval if there is one."""
    mean, interval = format(figure["mean"], form), figure["interval"]
    if interval is None:
        return mean
    low, high = (format(end, form) for end in interval)
    return f"{mean}\n{low} to {high}"
