"""An executor with clocks in it, to see where a step's time goes. They cost little, but not nothing.

Shapes: T tokens, K inputs and N outputs of a matrix, E hidden, F intermediate, H query heads, G KV heads, D head dim,
N pages of storage, P tokens in a page.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from infergc.config import ConfigError, EngineConfig
from infergc.kernels.api import AttentionBackend, BatchLayout, DenseOps, Rotation
from infergc.kernels.freight import Freight
from infergc.worker.executor import TorchExecutor
from infergc.worker.factory import create_executor, wants_gpu

PRODUCTS, ROWWISE, ATTENTION = "products", "rowwise", "attention"


class Stopwatch:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.seconds = dict.fromkeys((PRODUCTS, ROWWISE, ATTENTION), 0.0)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """The block's time counts for this."""
        started = perf_counter()
        yield
        self.seconds[what] += perf_counter() - started


class TimedAttention:
    """Implements ``kernels.api.AttentionBackend`` by another one, with a clock around it."""

    def __init__(self, backend: AttentionBackend, watch: Stopwatch) -> None:
        self.name = backend.name
        self._backend = backend
        self._watch = watch

    def plan(self, layout: BatchLayout, freight: Freight | None = None) -> Any:
        """See ``AttentionBackend``."""
        with self._watch.on(ATTENTION):
            return self._backend.plan(layout, freight)

    def write(
        self, step: Any, k_TGD: torch.Tensor, v_TGD: torch.Tensor, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor
    ) -> None:
        """See ``AttentionBackend``."""
        with self._watch.on(ATTENTION):
            self._backend.write(step, k_TGD, v_TGD, k_NGPD, v_NGPD)

    def attend(
        self,
        step: Any,
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """See ``AttentionBackend``."""
        with self._watch.on(ATTENTION):
            return self._backend.attend(step, q_THD, k_NGPD, v_NGPD, scale, window)


class TimedOps:
    """Implements ``kernels.api.DenseOps`` by others, with a clock around them."""

    def __init__(self, ops: DenseOps, watch: Stopwatch) -> None:
        self._ops = ops
        self._watch = watch

    def pack(self, weight_NK: torch.Tensor, bias_N: torch.Tensor | None, *, consume: bool = False) -> Any:
        """See ``DenseOps``; it is no part of a step, so it is not timed."""
        return self._ops.pack(weight_NK, bias_N, consume=consume)

    def linear(self, x_TK: torch.Tensor, matrix: Any) -> torch.Tensor:
        """See ``DenseOps``."""
        with self._watch.on(PRODUCTS):
            return self._ops.linear(x_TK, matrix)

    def embed(self, ids_T: torch.Tensor, matrix: Any) -> torch.Tensor:
        """See ``DenseOps``."""
        with self._watch.on(ROWWISE):
            return self._ops.embed(ids_T, matrix)

    def add_norm(
        self, hidden_TE: torch.Tensor, delta_TE: torch.Tensor | None, weight_E: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See ``DenseOps``."""
        with self._watch.on(ROWWISE):
            return self._ops.add_norm(hidden_TE, delta_TE, weight_E, eps)

    def silu_mul(self, gate_up_TF: torch.Tensor) -> torch.Tensor:
        """See ``DenseOps``."""
        with self._watch.on(ROWWISE):
            return self._ops.silu_mul(gate_up_TF)

    def rotate(self, heads_THD: torch.Tensor, rotation: Rotation) -> None:
        """See ``DenseOps``."""
        with self._watch.on(ROWWISE):
            self._ops.rotate(heads_THD, rotation)


def create_timed_executor(config: EngineConfig) -> tuple[TorchExecutor, Stopwatch]:
    """An executor without storage yet, as ``worker.factory`` makes it, and the clock that runs in it.

    Raises:
        ConfigError: the model would run on a GPU, whose work the clock does not see.
    """
    if wants_gpu(config):
        raise ConfigError("--device: where a step's time goes is told on the CPU alone; add --device cpu")
    executor, watch = create_executor(config), Stopwatch()
    executor.attention = TimedAttention(executor.attention, watch)
    executor.decoder.ops = TimedOps(executor.decoder.ops, watch)
    return executor, watch
