"""Means with 95 % confidence intervals over seeds; numpy alone, and the same figures every time."""

import math
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]

_Z = 1.959964  # of the normal distribution: 95 % lie within
_ROUNDS = 2000
_TAILS = (0.025, 0.975)


def ratio(sums: Sequence[float], counts: Sequence[float]) -> float:
    """Σ sums / Σ counts: the mean over all that the seeds have, each by how much it has."""
    return float(np.sum(sums) / np.sum(counts))


def ratio_interval(sums: Sequence[float], counts: Sequence[float]) -> Interval | None:
    """Where the ratio lies by the percentile bootstrap over seeds (Efron 1979); None with fewer than two seeds.

    Few seeds give an interval that is too narrow rather than too wide.

    Args:
        sums: one a seed, of something over its positions or questions.
        counts: of these.
    """
    if len(sums) < 2:
        return None
    drawn = np.random.default_rng(0).integers(len(sums), size=(_ROUNDS, len(sums)))
    ratios = np.asarray(sums, np.float64)[drawn].sum(-1) / np.asarray(counts, np.float64)[drawn].sum(-1)
    low, high = np.quantile(ratios, _TAILS)
    return float(low), float(high)


def share_interval(scores: Sequence[float]) -> Interval | None:
    """The interval of a mean of scores from 0 to 1, one a seed.

    Where all are 0 or all are 1 every draw of the bootstrap is the same, which proves nothing: there it is Wilson's
    interval of so many trials.
    """
    if scores and len(set(scores)) == 1 and scores[0] in {0, 1}:
        return wilson(sum(scores), len(scores))
    return ratio_interval(scores, [1] * len(scores))


def wilson(successes: float, trials: int) -> Interval:
    """The score interval of a proportion (Wilson 1927)."""
    share, spread = successes / trials, _Z**2 / trials
    middle = share + spread / 2
    half = _Z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
