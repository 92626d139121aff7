"""The per-slot numbers that shape a draw, as columns of arrays."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from infergc.params import SamplingParams


@dataclass(frozen=True, slots=True)
class Knobs:
    """Columns over R slots or rows; the names mean what they mean in ``SamplingParams``."""

    temperature: NDArray[np.float32]  # 0 is greedy
    top_k: NDArray[np.int64]  # 1 … V; V where everything is kept
    top_p: NDArray[np.float64]
    min_p: NDArray[np.float64]
    seed: NDArray[np.uint64]
    logprobs: NDArray[np.int64]  # likeliest tokens to report, -1 for no report

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Greedy rows that report nothing."""
        return cls(
            temperature=np.zeros(rows, np.float32),
            top_k=np.ones(rows, np.int64),
            top_p=np.ones(rows),
            min_p=np.zeros(rows),
            seed=np.zeros(rows, np.uint64),
            logprobs=np.full(rows, -1, np.int64),
        )

    def set(self, row: int, params: SamplingParams, vocab_size: int) -> None:
        """Write one row. A missing seed is 0: the client draws seeds, not the worker."""
        self.temperature[row] = max(params.temperature, _LEAST) if params.temperature else 0.0
        self.top_k[row] = min(params.top_k, vocab_size) if params.top_k > 0 else vocab_size
        self.top_p[row] = params.top_p
        self.min_p[row] = params.min_p
        self.seed[row] = params.seed or 0
        self.logprobs[row] = -1 if params.logprobs is None else params.logprobs

    def take(self, rows: NDArray[np.integer]) -> Self:
        """The given rows, in the order given (a copy)."""
        return type(self)(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


_LEAST = float(np.finfo(np.float32).tiny)  # below it a temperature would round to 0, which means greedy
