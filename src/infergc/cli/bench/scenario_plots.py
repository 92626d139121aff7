"""What ``infergc bench scenarios --plots`` draws: bars of memory for each scenario, lines for the sweep."""

from pathlib import Path
from typing import Any

import click

from infergc.units import GIB

Axes = Any  # of matplotlib, which need not be there
_BASE, _OURS, _WITHOUT = "#9aa5b1", "#1f6fb4", "#9cc4e4"
_LINES = {"reserved": "#c9ced6", "doubling": "#7b8794", "paged": "#d98324", "cached": "#2a9d5c", "ours": _OURS}


def check_plots(directory: Path) -> None:
    """See that plots can be drawn, and make the directory for them.

    Raises:
        click.UsageError: they cannot; the message says why.
    """
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - an optional extra
    except ImportError:
        raise click.UsageError("--plots: needs matplotlib; pip install 'infergc[plot]'") from None
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--plots: cannot make {directory}: {error.strerror}") from None


def draw(directory: Path, figures: dict[str, Any]) -> None:
    """Write a picture for each scenario, and one of the sweep."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    quick = ", quick: no figure compares with the bars" if figures["sizes"]["quick"] else ""
    for scenario in figures["scenarios"]:
        picture = Figure(figsize=(10, 5.5), layout="constrained")
        title = f"Scenario {scenario['scenario']}: {scenario['title']} ({figures['model']} on {figures['device']})"
        picture.suptitle(title + quick)
        peak, pool = picture.subplots(1, 2, sharey=True)
        _memory(peak, scenario, "ample", "peak_bytes", "Most held for live requests, GiB")
        _memory(pool, scenario, "smallest", "pool_bytes", "Smallest pool that serves as well, GiB")
        picture.savefig(directory / f"scenario-{scenario['scenario']}.png", dpi=120)
        if "sweep" in scenario:
            picture = Figure(figsize=(8, 5), layout="constrained")
            _sweep(picture.subplots(), scenario["sweep"], quick)
            picture.savefig(directory / f"scenario-{scenario['scenario']}-sweep.png", dpi=120)


def _memory(panel: Axes, scenario: dict[str, Any], part: str, figure: str, title: str) -> None:
    """A bar for each system, ours in colour, and below it ours without one technique each."""
    cells = [*scenario["cells"], *scenario["without"]]
    count = len(scenario["cells"])
    sizes = [cell[part][figure] / GIB for cell in cells]
    colours = [_BASE] * (count - 1) + [_OURS] + [_WITHOUT] * len(scenario["without"])
    bars = panel.barh(range(len(cells)), sizes, color=colours)
    panel.bar_label(bars, fmt="{:,.1f}", padding=3, fontsize="small")
    panel.set_yticks(range(len(cells)), [cell["title"] for cell in cells], fontsize="small")
    panel.set_ylim(len(cells) - 0.5, -0.5)
    panel.set_xlim(0, max(sizes) * 1.15)
    panel.set_title(title, fontsize="medium")
    panel.spines[["top", "right"]].set_visible(False)


def _sweep(panel: Axes, sweep: list[dict[str, Any]], quick: str) -> None:
    shares = [point["share"] for point in sweep]
    for at, first in enumerate(sweep[0]["cells"]):
        sizes = [point["cells"][at]["ample"]["peak_bytes"] / GIB for point in sweep]
        dashed = "--" if first["system"] == "ours" else "-"  # it may lie upon another
        panel.plot(shares, sizes, dashed, marker="o", markersize=3, label=first["title"], color=_LINES[first["system"]])
    panel.set_xlabel("share of the mean prompt that is the system prompt, %")
    panel.set_ylabel("most held for live requests, GiB")
    panel.set_title(f"Scenario 3: one system prompt, share swept{quick}")
    panel.grid(visible=True, alpha=0.25)
    panel.set_ylim(bottom=0)
    panel.legend(fontsize="small")
