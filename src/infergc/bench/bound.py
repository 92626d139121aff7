"""The least time that a run could take: its matrix products alone, and its attention at the machine's rates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infergc.engine.rates import AttentionCost, MachineRates
from infergc.sched.plan import StepPlan

I64 = NDArray[np.int64]
MOST_SIZES = 16  # row counts that are measured; between them time is interpolated


@dataclass(frozen=True, slots=True)
class Bound:
    """Seconds over all steps of a run.

    Attributes:
        layers: matrix products of the layers, weights prepacked.
        head: product with the output matrix, for sampled rows only.
        prefill: attention of prompt chunks, its operations at the rate of the fastest matrix product.
        decode: attention of single tokens, K and V at the rate at which memory is read.
    """

    layers: float
    head: float
    prefill: float
    decode: float

    @property
    def products(self) -> float:
        """Matrix products alone."""
        return self.layers + self.head

    @property
    def with_attention(self) -> float:
        """Matrix products and attention."""
        return self.products + self.prefill + self.decode


def bound(plans: Iterable[StepPlan], rates: MachineRates) -> Bound:
    """The least time of these steps."""
    layers = head = prefill = decode = 0.0
    for plan in plans:
        layers += _interpolated(rates.layers, plan.tokens)
        head += _interpolated(rates.head, int(plan.sample.sum()))
        pairs, positions = attention_work(plan, rates.attention)
        prefill += pairs * rates.attention.pair_flops / rates.matrix_flops
        decode += positions * rates.attention.position_bytes / rates.read_bytes
    return Bound(layers, head, prefill, decode)


def attention_work(plan: StepPlan, cost: AttentionCost) -> tuple[int, int]:
    """What a step's attention must do, over all layers.

    Returns:
        pairs of a query and a key it sees, in rows of several tokens; positions read, in rows of one.
    """
    chunks = plan.counts > 1
    pairs = positions = 0
    for window in cost.windows:
        seen = _seen(plan.starts.astype(np.int64), plan.counts.astype(np.int64), window)
        pairs += int(seen[chunks].sum())
        positions += int(seen[~chunks].sum())
    return pairs, positions


def row_counts(counts: Iterable[int]) -> list[int]:
    """The row counts to measure so that all of these can be told: all, or some from the least to the most."""
    distinct = sorted({count for count in counts if count > 0})
    if len(distinct) <= MOST_SIZES:
        return distinct
    picked = np.linspace(0, len(distinct) - 1, MOST_SIZES).round().astype(int)
    return [distinct[index] for index in picked]


def _seen(starts: I64, counts: I64, window: int | None) -> I64:
    """Σ min(p + 1, window) over each row's positions p = start … start + count - 1."""
    ends = starts + counts
    seen = _triangle(ends) - _triangle(starts)
    if window is not None:  # less what lies before it
        seen -= _triangle(np.maximum(ends - window, 0)) - _triangle(np.maximum(starts - window, 0))
    return seen


def _triangle(n: I64) -> I64:
    """1 + 2 + … + n."""
    return n * (n + 1) // 2


def _interpolated(seconds: dict[int, float], rows: int) -> float:
    """Time for so many rows, between those measured; none takes none."""
    if rows == 0:
        return 0.0
    measured: Sequence[int] = sorted(seconds)
    return float(np.interp(rows, measured, [seconds[count] for count in measured]))
