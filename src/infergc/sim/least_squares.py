"""Least squares with no coefficient below zero, by Lawson and Hanson's active set."""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
_TOLERANCE = 1e-9
_MOST_TURNS = 10  # for each coefficient; the method ends far sooner but for rounding


def least_squares(terms: F64, values: F64) -> F64:
    """The x ≥ 0 that makes |terms @ x - values| least (Lawson and Hanson 1974, Solving Least Squares Problems, ch. 23).

    Args:
        terms: [N, K], finite.
        values: [N].

    Returns:
        [K]. A column of zeros gets 0.
    """
    scale = np.linalg.norm(terms, axis=0)
    scale[scale == 0] = 1.0
    scaled = terms / scale  # columns of like size, so that one tolerance suits all
    x, free = np.zeros(terms.shape[1]), np.zeros(terms.shape[1], bool)
    enough = _TOLERANCE * max(1.0, float(np.linalg.norm(values)))
    for _ in range(_MOST_TURNS * len(x)):
        gain = np.where(free, -np.inf, scaled.T @ (values - scaled @ x))
        if gain.max() <= enough:
            break
        free[gain.argmax()] = True
        x = _feasible(scaled, values, x, free)
    found: F64 = x / scale
    return found


def _feasible(terms: F64, values: F64, x: F64, free: NDArray[np.bool_]) -> F64:
    """Go from x towards the best point of the free coefficients; those that reach zero on the way are free no more."""
    while True:
        best = np.zeros_like(x)
        best[free] = np.linalg.lstsq(terms[:, free], values, rcond=None)[0]
        falls = free & (best <= 0)
        if not falls.any():
            return best
        steps = np.where(falls, x / np.where(falls, x - best, 1.0), np.inf)
        x = x + steps.min() * (best - x)
        free &= ~(falls & (steps <= steps.min()))
        x[~free] = 0.0
