"""Rows of logits a few at a time."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_ELEMENTS = 1 << 18  # worked on at once: they stay in the caches, and bound what sampling takes to some 10 MiB


def pieces(rows: NDArray[np.int64], vocab_size: int, most: int = _ELEMENTS) -> Iterator[NDArray[np.int64]]:
    """The rows in pieces of at most ``most`` logits together, but of one row at least."""
    step = max(1, most // vocab_size)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
