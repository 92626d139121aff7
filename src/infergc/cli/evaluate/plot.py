"""The picture of ``infergc eval``: text by position above, recall by length and by depth below."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_PANEL = (4.5, 3.6)  # inches
_OWN, _FULL = "#1f6fb4", "#9aa5b1"
_COLOURS = ("#1f6fb4", "#d98324", "#2a9d5c", "#b30000", "#7b4fa3")
_LEAST_KL = 1e-6  # nats: below it the axis is linear, so that it has a place for none


def plot(file: Path, results: dict[str, Any]) -> None:
    """Draw what was measured.

    Raises:
        OSError: it cannot be written.
    """
    text, rows = results["text"], results["retrieval"]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    lines = (text is not None) + bool(tasks)
    columns = max(3 if text is not None else 1, len(tasks))
    picture = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * lines), layout="constrained")
    panels = picture.subplots(lines, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_visible(False)
    if text is not None:
        _text(panels[0], text)
    for panel, task in zip(panels[-1], tasks, strict=False):
        _recall(panel, task, [row for row in rows if row["task"] == task])
    lossy = ", ".join(f"{name} {value}" for name, value in results["lossy"].items()) or "no lossy setting"
    picture.suptitle(f"{results['model']['name']}, {lossy}")
    picture.savefig(file, dpi=120)


def _text(panels: Any, text: dict[str, Any]) -> None:
    rows = text["by_position"]
    names = [f"{row['from']}–{row['to']}" for row in rows]  # noqa: RUF001 - a range
    perplexity, kl, agreement = panels[:3]
    for figure, label, colour in (("reference_perplexity", "full", _FULL), ("perplexity", "judged", _OWN)):
        _line(perplexity, names, [row[figure] for row in rows], label, colour)
    perplexity.legend(fontsize="small")
    _begin(perplexity, "Perplexity by position", "tokens before")
    _line(kl, names, [row["kl"] for row in rows], "KL", _OWN)
    kl.set_yscale("symlog", linthresh=_LEAST_KL)
    kl.set_ylim(bottom=0)
    _begin(kl, "KL(full, judged), nats", "tokens before")
    _line(agreement, names, [row["agreement"] for row in rows], "agreement", _OWN)
    agreement.set_ylim(-0.05, 1.05)
    _begin(agreement, "Same likeliest token", "tokens before")


def _recall(panel: Axes, task: str, rows: list[dict[str, Any]]) -> None:
    """A line for each length by depth, the full cache's dashed."""
    for row, colour in zip(rows, _COLOURS * len(rows), strict=False):
        depths = [f"{one['depth']:g}" for one in row["by_depth"]]
        label = f"{row['length']:,}" + ", unusable" * (not row["usable"])
        _line(panel, depths, [one["score"] for one in row["by_depth"]], label, colour)
        full = [one["reference_score"]["mean"] for one in row["by_depth"]]
        panel.plot(depths, full, "--", color=colour, linewidth=1, alpha=0.6)
    panel.set_ylim(-0.05, 1.05)
    panel.legend(title="tokens", fontsize="x-small", title_fontsize="x-small")
    _begin(panel, f"Recall: {task} (dashed: full)", "depth")


def _line(panel: Axes, names: list[str], figures: list[dict[str, Any]], label: str, colour: str) -> None:
    """Means, with intervals where there are some."""
    means = [figure["mean"] for figure in figures]
    ends = [figure["interval"] or (figure["mean"], figure["mean"]) for figure in figures]
    below = [max(0.0, mean - low) for mean, (low, _) in zip(means, ends, strict=True)]
    above = [max(0.0, high - mean) for mean, (_, high) in zip(means, ends, strict=True)]
    panel.errorbar(names, means, yerr=[below, above], marker="o", markersize=3, capsize=3, label=label, color=colour)


def _begin(panel: Axes, title: str, axis: str) -> None:
    panel.set_visible(True)
    panel.set_title(title, fontsize="medium")
    panel.set_xlabel(axis, fontsize="small")
    panel.tick_params(labelsize="small")
    panel.grid(visible=True, alpha=0.25)
