"""What a step runs on: where its tensors are, how arrays get there and back, and the order of work that runs beside.

Work on a device is given to a stream and done later, in the order given; each thread has its own. A fence is a place in
a stream that another can wait for. On the CPU all is done when the call returns, and there is nothing to wait for.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.heap.moves import Move
from infergc.worker.arena import arena
from infergc.worker.copies import copy_runs

Fence = Any  # a place in a thread's work: the device's own, made by ``fence``


class Fetch(Protocol):
    """A tensor on its way to the host."""

    def done(self) -> bool:
        """Whether ``result`` returns at once."""
        ...

    def result(self) -> NDArray[Any]:
        """Wait for it."""
        ...


class Device(Protocol):
    """A device and what its threads do there.

    Attributes:
        place: its name in torch.
    """

    place: torch.device

    def enter(self) -> None:
        """Give the calling thread a stream of its own; once, before its work and after what that starts from."""
        ...

    def upload(self, arrays: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
        """The arrays there, in one copy, or themselves where the device is the host."""
        ...

    def fetch(self, tensor: torch.Tensor) -> Fetch:
        """Start to bring a tensor to the host. It is not to be changed before it is there."""
        ...

    def fence(self) -> Fence:
        """A place behind all that the calling thread has given the device so far."""
        ...

    def wait(self, fence: Fence) -> None:
        """Let what the calling thread gives the device from now on begin only when the fence is reached."""
        ...

    def seconds(self, began: Fence, ended: Fence) -> float:
        """Time between two fences of one thread; waits for the second."""
        ...

    def memory(self, size: int) -> torch.Tensor:
        """An arena of so many bytes there, zeros, [size] uint8."""
        ...

    def host_memory(self, size: int) -> torch.Tensor:
        """An arena on the host that the device copies from and to while it computes, zeros, [size] uint8."""
        ...

    def move(self, arena_L2NGPD: torch.Tensor, moves: Sequence[Move]) -> None:
        """Copy pages within an arena there, ``[L, 2, N, G, P, D]``, as if one after the other."""
        ...

    def copy(self, source_L2NGPD: torch.Tensor, target_L2NGPD: torch.Tensor) -> None:
        """Copy a run of pages between the two kinds of memory: for every layer, of K and of V, one piece."""
        ...


class Here:
    """A tensor that is on the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._array = tensor.numpy()

    def done(self) -> bool:
        """See ``Fetch``."""
        return True

    def result(self) -> NDArray[Any]:
        """See ``Fetch``."""
        return self._array


class HostDevice:
    """Implements ``Device`` where the device is the host. A fence is the time."""

    place = torch.device("cpu")

    def enter(self) -> None:
        """See ``Device``; a thread of the host is a stream."""

    def upload(self, arrays: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
        """See ``Device``; nothing is copied."""
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]

    def fetch(self, tensor: torch.Tensor) -> Here:
        """See ``Device``."""
        return Here(tensor)

    def fence(self) -> float:
        """See ``Device``."""
        return time.perf_counter()

    def wait(self, fence: float) -> None:
        """See ``Device``; it has been reached."""

    def seconds(self, began: float, ended: float) -> float:
        """See ``Device``."""
        return ended - began

    def memory(self, size: int) -> torch.Tensor:
        """See ``Device``; the system commits what is written."""
        return arena(size, torch.uint8)

    def host_memory(self, size: int) -> torch.Tensor:
        """See ``Device``; the system commits what is written."""
        return arena(size, torch.uint8)

    def move(self, arena_L2NGPD: torch.Tensor, moves: Sequence[Move]) -> None:
        """See ``Device``."""
        copy_runs(arena_L2NGPD, moves)

    def copy(self, source_L2NGPD: torch.Tensor, target_L2NGPD: torch.Tensor) -> None:
        """See ``Device``."""
        target_L2NGPD.copy_(source_L2NGPD)
