"""What a step runs on: where its tensors are, how arrays get there and back, and the order of work that runs beside.

Work on a device is given to a stream and done later, in the order given; each thread has its own. A fence is a place in
a stream that another can wait for. On the CPU all is done when the call returns, and there is nothing to wait for.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from infergc.heap.moves import Move
from infergc.kernels.freight import Direct, Freight
from infergc.worker.devices.arena import arena
from infergc.worker.devices.copies import copy_runs

Fence = Any  # a place in a thread's work: the device's own, made by ``fence``


class Recorder(Protocol):
    """Records what work gives to a device."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Find out what ``work`` gives, without its being done: the result gives it again, with the same addresses.

        ``work`` was done once before. It is as if nothing had been recorded where this raises.
        """
        ...


class Again:
    """Implements ``Recorder`` where giving work costs little: it is just done."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Recorder``."""
        return work


class Device(Protocol):
    """A device and what its threads do there.

    Attributes:
        place: its name in torch.
        records: whether work that is recorded costs less than when it is given piece by piece.
    """

    place: torch.device
    records: bool

    def enter(self) -> None:
        """Give the calling thread a stream of its own; once, before its work and after what that starts from."""
        ...

    def freight(self) -> Freight:
        """What is to take a step's arrays there; one at a time, used by one thread."""
        ...

    def recorder(self) -> Recorder:
        """What records work of the calling thread; all that it has recorded is let go of together with it."""
        ...

    def fetch(self, tensor: torch.Tensor) -> NDArray[Any]:
        """A copy on the host, which may be read once a fence behind this is reached."""
        ...

    def fence(self) -> Fence:
        """A place behind all that the calling thread has given the device so far."""
        ...

    def settle(self, fence: Fence) -> None:
        """Wait for that, on the calling thread."""
        ...

    def wait(self, fence: Fence) -> None:
        """Let what the calling thread gives the device from now on begin only when the fence is reached."""
        ...

    def seconds(self, began: Fence, ended: Fence) -> float:
        """Time between two fences of one thread, both reached: it waits for neither."""
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


class HostDevice:
    """Implements ``Device`` where the device is the host. A fence is the time."""

    place = torch.device("cpu")
    records = False

    def enter(self) -> None:
        """See ``Device``; a thread of the host is a stream."""

    def freight(self) -> Direct:
        """See ``Device``; nothing is copied."""
        return Direct(self.place)

    def recorder(self) -> Again:
        """See ``Device``."""
        return Again()

    def fetch(self, tensor: torch.Tensor) -> NDArray[Any]:
        """See ``Device``; it is there."""
        array: NDArray[Any] = tensor.numpy()
        return array

    def fence(self) -> float:
        """See ``Device``."""
        return time.perf_counter()

    def settle(self, fence: float) -> None:
        """See ``Device``; it has been reached."""

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


def drain(device: Device) -> None:
    """Wait for all that the calling thread has given the device."""
    device.settle(device.fence())
