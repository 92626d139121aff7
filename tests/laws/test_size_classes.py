"""Size classes do something: long sequences have short tables, and little of what is held is empty.

Continuous batching at 90 % occupancy and more, with prompts of several sequences computed in turn, chunk by
chunk, so that they compete for neighbours. ``-rP`` prints the figures.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infergc.heap.objects import TokenLog
from laws.churn import NAMESPACE, Churn, Figures, Request
from laws.mixes import azure_like, azure_trace, mooncake_like, mooncake_trace

SHORT_TABLE = 1 / 8  # extents of a long sequence's table, at most, over the entries of single pages
FULL = 0.97  # tokens stored, at least, over token slots held


def _served(requests: list[Request], tokens: int, prefills: int, *, caching: bool) -> Figures:
    figures = Churn(tokens, caching=caching, prefills=prefills).run(requests)
    print(figures)
    assert figures.finished == len(requests)
    assert figures.occupancy_mean >= 0.9
    assert min(figures.fills) >= FULL
    assert max(figures.extent_ratios, default=0.0) <= SHORT_TABLE
    return figures


@pytest.mark.parametrize("caching", [False, True], ids=["plain", "caching"])
def test_lengths_like_azure(caching: bool) -> None:
    figures = _served(azure_like(900, seed=0), 1 << 18, 4, caching=caching)
    assert len(figures.extent_ratios) > 100


@pytest.mark.parametrize("caching", [False, True], ids=["plain", "caching"])
def test_lengths_like_mooncake(caching: bool) -> None:
    figures = _served(mooncake_like(350, seed=1), 1 << 20, 8, caching=caching)
    assert len(figures.extent_ratios) > 1000


def test_a_lone_sequence_is_one_extent() -> None:
    heap = Churn(1 << 16, caching=False).heap
    sequence = heap.open("lone", TokenLog(np.arange(1 << 15, dtype=np.int32)), NAMESPACE)
    assert sequence is not None
    for length in range(1, 1 << 15, 640):
        assert heap.reserve([(sequence, length)])
    assert heap.tables[0].extents[sequence.slot] == 1


@pytest.mark.parametrize("caching", [False, True], ids=["plain", "caching"])
@pytest.mark.parametrize(
    ("read", "tokens"), [(azure_trace, 1 << 18), (mooncake_trace, 1 << 20)], ids=["azure", "mooncake"]
)
def test_recorded_traffic(
    read: Callable[[Path, int], list[Request]], tokens: int, caching: bool, request: pytest.FixtureRequest
) -> None:
    folder = request.config.getoption("--traces") or os.environ.get("INFERGC_TRACES")
    if not folder:
        pytest.skip("--traces DIR or INFERGC_TRACES names no directory of recorded traces")
    _served(read(Path(folder), 1000), tokens, 8, caching=caching)
