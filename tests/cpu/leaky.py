"""Executors of real models with a tensor leak planted in each step."""

import gc
from typing import Any

import torch

from infergc.config import EngineConfig
from infergc.worker.executor import TorchExecutor
from infergc.worker.factory import create_executor

CYCLIC = f"{__name__}:create_cyclic"
GROWING = f"{__name__}:create_growing"
SHAPE = (256, 1024)
NAME = "256x1024"
BYTES = 256 * 1024 * 4


class Node:
    """Holds a tensor, and itself."""

    def __init__(self) -> None:
        self.tensor = torch.ones(SHAPE)
        self.me = self


class Hoard:
    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []


def create_cyclic(config: EngineConfig) -> TorchExecutor:
    """Each step drops a cycle that young collections have passed over: as one that a long request held."""

    def leak() -> None:
        node = Node()
        gc.collect(1)
        assert node.me is node

    return _leaking(create_executor(config), leak)


def create_growing(config: EngineConfig) -> TorchExecutor:
    """Each step adds a tensor to a list that was there from the start."""
    executor = create_executor(config)
    hoard = Hoard()
    executor.hoard = hoard  # type: ignore[attr-defined]
    return _leaking(executor, lambda: hoard.kept.append(torch.ones(SHAPE)))


def _leaking(executor: TorchExecutor, leak: Any) -> TorchExecutor:
    launch = executor.launch

    def leaking(plan: Any) -> Any:
        leak()
        return launch(plan)

    executor.launch = leaking  # type: ignore[method-assign]
    return executor
