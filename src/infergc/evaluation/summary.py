"""From what was recorded to the figures that are told: docs/evaluation.md has every field."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infergc import __version__
from infergc.evaluation.given import Given
from infergc.evaluation.plan import REFERENCE, VARIANT, Plan, RetrievalCell
from infergc.evaluation.reference import lossy_settings, settings_of
from infergc.evaluation.statistics import Interval, ratio, ratio_interval, share_interval

SCHEMA = 1
USABLE = 0.95  # of the full cache's score: below it a task says nothing of what a lossy one forgets
_FIRST_EDGE = 128  # tokens; each bucket of positions is as long as all before it
_MOST_NATS = 700.0

Cell = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was recorded, by role.

    Attributes:
        texts: of each window, as ``decoding`` finds it.
        cells: of each retrieval cell, as ``retrieval.ask`` has it.
        kv: how KV is laid out.
    """

    texts: dict[str, list[Cell]]
    cells: dict[str, dict[RetrievalCell, Cell]]
    kv: dict[str, Cell]


def summary(given: Given, digest: str, measured: Measured) -> dict[str, Any]:
    """All figures of an evaluation."""
    return {
        "schema": SCHEMA,
        "infergc": __version__,
        "model": {"name": given.config.model.resolve().name, "digest": digest},
        "settings": settings_of(given.config),
        "lossy": lossy_settings(given.config),
        "plan": given.plan.told(),
        "kv": measured.kv,
        "text": _text(given, measured.texts) if given.texts else None,
        "retrieval": _retrieval(given.plan, measured.cells),
    }


# ---- text


def _text(given: Given, found: dict[str, list[Cell]]) -> dict[str, Any]:
    sizes = [len(ids) for ids in given.texts]
    edges = _edges(max(sizes))
    return {
        "windows": len(sizes),
        "tokens": sizes,
        "made_up": not given.plan.texts,
        "preemptions": sum(cell["preemptions"] for cells in found.values() for cell in cells),
        **_over(given.plan, found, 0, max(sizes)),
        "by_position": [
            {"from": low, "to": high, **_over(given.plan, found, low, high)}
            for low, high in pairwise(edges)
            if high > given.plan.prefill
        ],
    }


def _edges(longest: int) -> list[int]:
    edges = [0, _FIRST_EDGE]
    while edges[-1] < longest:
        edges.append(2 * edges[-1])
    return edges


def _over(plan: Plan, found: dict[str, list[Cell]], low: int, high: int) -> dict[str, Any]:
    """Figures of the tokens with ``low`` to ``high`` - 1 others before them."""
    part = slice(max(0, low - plan.prefill), max(0, high - plan.prefill))
    nll = {role: [cell["nll"][part] for cell in cells if cell["nll"][part]] for role, cells in found.items()}
    kl = [cell["kl"][part] for cell in found[VARIANT] if cell["kl"][part]]
    agrees = [cell["agrees"][part] for cell in found[VARIANT] if cell["agrees"][part]]
    whole = np.concatenate(kl)
    p50, p99 = np.quantile(whole, (0.5, 0.99))
    return {
        "decoded": len(whole),
        "reference_perplexity": _perplexity(nll[REFERENCE]),
        "perplexity": _perplexity(nll[VARIANT]),
        "nll_difference": _mean([np.subtract(*pair) for pair in zip(nll[VARIANT], nll[REFERENCE], strict=True)]),
        "kl": {**_mean(kl), "p50": float(p50), "p99": float(p99), "max": float(whole.max())},
        "agreement": _mean(agrees),
    }


def _mean(windows: Sequence[Sequence[float] | NDArray[np.float64]]) -> dict[str, Any]:
    """Mean over all tokens, with its interval over windows."""
    sums, counts = [float(np.sum(each)) for each in windows], [len(each) for each in windows]
    return {"mean": ratio(sums, counts), "interval": ratio_interval(sums, counts)}


def _perplexity(windows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Exp of the mean negative log likelihood."""
    found = _mean(windows)
    interval = found["interval"]
    return {"mean": _exp(found["mean"]), "interval": interval and tuple(map(_exp, interval))}


def _exp(nats: float) -> float:
    """Finite, so that JSON can have it: what is beyond is told as the most that floats hold, about."""
    return exp(min(nats, _MOST_NATS))


# ---- retrieval


def _retrieval(plan: Plan, found: dict[str, dict[RetrievalCell, Cell]]) -> list[dict[str, Any]]:
    rows = []
    for task in plan.tasks:
        for length in plan.lengths:
            cells = [cell for cell in found[VARIANT] if (cell.task, cell.length) == (task, length)]
            figures = _scores(cells, found)
            by_depth = [
                {"depth": depth, **_scores([cell for cell in cells if cell.depth == depth], found)}
                for depth in plan.depths
            ]
            usable = figures["reference_score"]["mean"] >= USABLE
            held = {role: max(found[role][cell]["held_bytes"] for cell in cells) for role in found}
            rows.append({
                "task": task,
                "length": length,
                "usable": usable,
                **figures,
                "shared": _shared(cells, found[VARIANT]),
                "held_bytes": held[VARIANT],
                "reference_held_bytes": held[REFERENCE],
                "preemptions": sum(cells_of[cell]["preemptions"] for cells_of in found.values() for cell in cells),
                "by_depth": by_depth,
            })  # fmt: skip
    return rows


def _scores(cells: Sequence[RetrievalCell], found: dict[str, dict[RetrievalCell, Cell]]) -> dict[str, Any]:
    """Mean scores over cells, and what the variant lost, cell by cell; intervals over seeds."""
    own, full = ({cell: found[role][cell]["score"] for cell in cells} for role in (VARIANT, REFERENCE))
    lost = _by_seed({cell: own[cell] - full[cell] for cell in cells})
    return {
        "score": _share(_by_seed(own)),
        "reference_score": _share(_by_seed(full)),
        "difference": {"mean": float(np.mean(lost)), "interval": ratio_interval(lost, [1] * len(lost))},
    }


def _by_seed(scores: dict[RetrievalCell, float]) -> list[float]:
    seeds = sorted({cell.seed for cell in scores})
    return [float(np.mean([scores[cell] for cell in scores if cell.seed == seed])) for seed in seeds]


def _share(scores: list[float]) -> dict[str, float | Interval | None]:
    return {"mean": float(np.mean(scores)), "interval": share_interval(scores)}


def _shared(cells: Sequence[RetrievalCell], found: dict[RetrievalCell, Cell]) -> float:
    """The share of contexts' tokens that questions found in the cache."""
    shares = [tokens / found[cell]["context_tokens"] for cell in cells for tokens in found[cell]["shared_tokens"]]
    return float(np.mean(shares))
