"""What a step has to do, counted from its plan: tokens, sampled rows, and what attention sees."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infergc.sched.plan import StepPlan

I64 = NDArray[np.int64]
WindowLayers = tuple[tuple[int | None, int], ...]  # (sliding window or None, layers that have it)


@dataclass(frozen=True, slots=True)
class StepWork:
    """Work of one step. Attention's is summed over layers; a row of one token is a decode, all others are chunks.

    Attributes:
        tokens: computed, over all rows.
        rows: sequences.
        sampled: rows whose last position is sampled: what the output matrix is multiplied with.
        chunk_pairs: a query and a key that it sees, in chunks.
        chunk_positions: positions whose K and V chunks read, each once a chunk.
        decode_positions: positions that decodes read; each has one query, so these are its pairs too.
    """

    tokens: int
    rows: int
    sampled: int
    chunk_pairs: int = 0
    chunk_positions: int = 0
    decode_positions: int = 0


def work_of(plan: StepPlan, windows: WindowLayers) -> StepWork:
    """Count a step's work. Cost: O(rows) for each distinct window.

    Args:
        plan: of the step.
        windows: of the model's layers.
    """
    starts, counts = plan.starts.astype(np.int64), plan.counts.astype(np.int64)
    ends, is_chunk = starts + counts, counts > 1
    pairs = chunk_positions = decode_positions = 0
    for window, layers in windows:
        seen = pairs_seen(starts, ends, window)
        pairs += layers * int(seen[is_chunk].sum())
        decode_positions += layers * int(seen[~is_chunk].sum())
        first = 0 if window is None else np.maximum(starts + 1 - window, 0)
        chunk_positions += layers * int((ends - first)[is_chunk].sum())
    sampled = int(np.count_nonzero(plan.sample))
    return StepWork(plan.tokens, len(starts), sampled, pairs, chunk_positions, decode_positions)


def pairs_seen(starts: I64, ends: I64, window: int | None) -> I64:
    """Σ min(p + 1, window) over each row's positions p = start … end - 1."""
    seen = _triangle(ends) - _triangle(starts)
    if window is not None:  # less what lies before it
        seen -= _triangle(np.maximum(ends - window, 0)) - _triangle(np.maximum(starts - window, 0))
    return seen


def _triangle(n: I64) -> I64:
    """1 + 2 + … + n."""
    return n * (n + 1) // 2
