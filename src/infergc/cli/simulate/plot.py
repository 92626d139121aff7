"""The plot of ``infergc simulate``: memory over time by state and generation, one panel a run."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infergc.sim.clock import Sample
from infergc.units import GIB, format_bytes

_PARTS = (  # state, generation, colour: live in blues, cached in warm colours, the old in the dark ones
    ("live", "tenured", "#1f4e79"),
    ("live", "survivor", "#4f8fc6"),
    ("live", "young", "#9cc4e4"),
    ("in_transit", "young", "#999999"),
    ("cached", "tenured", "#b30000"),
    ("cached", "survivor", "#fc8d59"),
    ("cached", "young", "#fdd49e"),
)
_FAR = 4  # times what is held: a pool that is larger is told in the title alone
_PANEL = (9.0, 3.0)  # inches


def plot(file: Path, runs: list[tuple[dict[str, Any], list[Sample]]]) -> None:
    """Draw the samples of each run; the file's suffix says of what kind it is.

    Raises:
        OSError: it cannot be written.
    """
    picture = Figure(figsize=(_PANEL[0], _PANEL[1] * len(runs)), layout="constrained")
    panels = picture.subplots(len(runs), 1, squeeze=False)[:, 0]
    for panel, (figures, samples) in zip(panels, runs, strict=True):
        _draw(panel, figures, samples)
    timed = any(figures["seconds"] is not None for figures, _ in runs)
    panels[-1].set_xlabel("simulated time, s" if timed else "steps: one for each prompt")
    named = {label: area for panel in panels for area, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    labels = [label for label in map(_label, _PARTS) if label in named][::-1]
    picture.legend([named[label] for label in labels], labels, loc="outside right upper", fontsize="small")
    picture.savefig(file)


def _label(part: tuple[str, str, str]) -> str:
    return f"{part[0].replace('_', ' ')} {part[1]}"


def _draw(panel: Axes, figures: dict[str, Any], samples: list[Sample]) -> None:
    timed = figures["seconds"] is not None
    places = [sample.seconds if timed else sample.steps for sample in samples]
    present = [part for part in _PARTS if any(sample.held.get(part[0], {}).get(part[1]) for sample in samples)]
    columns = [[sample.held[state].get(age, 0) / GIB for sample in samples] for state, age, _ in present]
    labels, pool = [_label(part) for part in present], figures["kv_bytes"] / GIB
    panel.stackplot(places, columns, labels=labels, colors=[colour for *_, colour in present])
    size = f"{figures['capacity_tokens']:,} tokens, {format_bytes(figures['kv_bytes'])}"
    panel.set_title(f"{figures['trace']}, {figures['policy']}, a pool of {size}", fontsize="medium")
    if max(map(sum, zip(*columns, strict=True)), default=0) > pool / _FAR:  # else it would make all the rest flat
        panel.axhline(pool, color="black", linestyle="dashed", linewidth=1)
    panel.set_ylabel("KV, GiB")
    panel.margins(x=0)
