"""Rows of logits a few at a time."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

_IN_CACHES = 1 << 18  # logits worked on at once on the host: sampling then takes some 10 MiB
_ON_DEVICE = 1 << 24  # and elsewhere, where every launch costs as much as a million: some 700 MiB


def pieces(rows: NDArray[np.int64], vocab_size: int, most: int = _IN_CACHES) -> Iterator[NDArray[np.int64]]:
    """The rows in pieces of at most ``most`` logits together, but of one row at least."""
    step = max(1, most // vocab_size)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def at_once(place: torch.device) -> int:
    """Logits that sampling works on at a time there."""
    return _IN_CACHES if place.type == "cpu" else _ON_DEVICE
