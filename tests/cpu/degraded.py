"""The executor of a real model whose K and V are rounded to a few levels when they are written to pages."""

from typing import Any

import torch

from infergc.config import EngineConfig
from infergc.kernels.api import AttentionBackend, BatchLayout
from infergc.kernels.freight import Freight
from infergc.worker import factory
from infergc.worker.executor import TorchExecutor

NAME = f"{__name__}:create_executor"
LEVELS = 3.0  # on either side of 0, for each head and token by its own largest


class RoundedAttention:
    """Another backend, which is given rounded K and V to write."""

    def __init__(self, backend: AttentionBackend) -> None:
        self.name = backend.name
        self._backend = backend

    def plan(self, layout: BatchLayout, freight: Freight | None = None) -> Any:
        return self._backend.plan(layout, freight)

    def write(
        self, step: Any, k_TGD: torch.Tensor, v_TGD: torch.Tensor, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor
    ) -> None:
        self._backend.write(step, rounded(k_TGD), rounded(v_TGD), k_NGPD, v_NGPD)

    def attend(
        self,
        step: Any,
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        return self._backend.attend(step, q_THD, k_NGPD, v_NGPD, scale, window)


def rounded(heads_TGD: torch.Tensor) -> torch.Tensor:
    step = heads_TGD.abs().amax(-1, keepdim=True).clamp(min=1e-9) / LEVELS
    return (heads_TGD / step).round().mul(step).contiguous()


def create_executor(config: EngineConfig) -> TorchExecutor:
    executor = factory.create_executor(config)
    executor.attention = RoundedAttention(executor.attention)
    return executor
