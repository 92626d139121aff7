"""The least time that a run could take: its matrix products alone, and its attention at the machine's rates."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from infergc.engine.rates import MachineRates
from infergc.sched.plan import StepPlan
from infergc.sim.work import work_of

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
    windows = tuple(Counter(rates.attention.windows).items())
    for plan in plans:
        layers += _interpolated(rates.layers, plan.tokens)
        head += _interpolated(rates.head, int(plan.sample.sum()))
        work = work_of(plan, windows)
        prefill += work.chunk_pairs * rates.attention.pair_flops / rates.matrix_flops
        decode += work.decode_positions * rates.attention.position_bytes / rates.read_bytes
    return Bound(layers, head, prefill, decode)


def row_counts(counts: Iterable[int]) -> list[int]:
    """The row counts to measure so that all of these can be told: all, or some from the least to the most."""
    distinct = sorted({count for count in counts if count > 0})
    if len(distinct) <= MOST_SIZES:
        return distinct
    picked = np.linspace(0, len(distinct) - 1, MOST_SIZES).round().astype(int)
    return [distinct[index] for index in picked]


def _interpolated(seconds: dict[int, float], rows: int) -> float:
    """Time for so many rows, between those measured; none takes none."""
    if rows == 0:
        return 0.0
    measured: Sequence[int] = sorted(seconds)
    return float(np.interp(rows, measured, [seconds[count] for count in measured]))
