"""An NVIDIA GPU as a ``Device``: streams, events, and pinned memory on the way there and back."""

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.heap.moves import Move
from infergc.kernels.freight import Crate, Parcel
from infergc.kernels.registry import why_not_compiled
from infergc.units import format_bytes
from infergc.worker.devices.arena import arena
from infergc.worker.devices.copies import Copies, copy_runs, kernel_copies

_STAGES = 4  # steps in flight and one being made: none waits for a copy of its own


class _Stage:
    """Pinned memory that arrays of a step are laid into; ``free`` is reached when they have been copied from it."""

    def __init__(self) -> None:
        self.host = torch.empty(0, dtype=torch.uint8)
        self.free = _event()

    def reserve(self, size: int) -> NDArray[np.uint8]:
        """So many bytes to write, once the last copy from here is over."""
        self.free.synchronize()
        if len(self.host) < size:
            self.host = torch.empty(2 * size, dtype=torch.uint8, pin_memory=True)
        memory: NDArray[np.uint8] = self.host.numpy()
        return memory[:size]


class CudaFreight:
    """Implements ``kernels.freight.Freight``: all arrays are laid into pinned memory, and one copy takes them.

    Args:
        place: the GPU.
        stage: where they are laid.
    """

    def __init__(self, place: torch.device, stage: _Stage) -> None:
        self.place = place
        self._stage = stage
        self._crate = Crate()

    def add(self, array: NDArray[Any]) -> Parcel:
        """See ``Freight``."""
        return self._crate.add(array)

    def send(self) -> None:
        """See ``Freight``."""
        crate, self._crate = self._crate, Crate()
        crate.fill(self._stage.reserve(crate.size))
        there = torch.empty(crate.size, dtype=torch.uint8, device=self.place)
        there.copy_(self._stage.host[: crate.size], non_blocking=True)
        self._stage.free.record()
        crate.unpack(there)


class CudaRecorder:
    """Implements ``device.Recorder``: CUDA graphs. They share memory, which is theirs and goes when they are gone.

    Other threads may give the GPU work meanwhile. Python's collector waits: what it finalises is no part of a graph,
    and may be forbidden while one is recorded. After a recording that failed there is no other: work is just done.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._failed = False

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``device.Recorder``."""
        if self._failed:
            return work
        graph, collects = torch.cuda.CUDAGraph(), gc.isenabled()
        gc.disable()
        try:
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
                graph.capture_end()
            except BaseException:
                self._failed = True
                self._end_failed(graph)
                raise
        finally:
            if collects:
                gc.enable()
        return graph.replay

    def _end_failed(self, graph: torch.cuda.CUDAGraph) -> None:
        """A recording that CUDA has given up is not ended by torch, whose allocator would go on as if in it."""
        try:
            graph.capture_end()
        except RuntimeError:
            device, private = torch.cuda.current_device(), torch._C  # noqa: SLF001 - there is no other way
            with suppress(RuntimeError):
                private._cuda_endAllocateToPool(device, self._pool)  # noqa: SLF001 - as above
                private._cuda_releasePool(device, self._pool)  # noqa: SLF001 - as above


class CudaDevice:
    """Implements ``device.Device``.

    Args:
        index: of the GPU.
        records: whether CUDA graphs are to be used.
    """

    def __init__(self, index: int = 0, *, records: bool = True) -> None:
        self.place = torch.device("cuda", index)
        self.records = records
        self._own = threading.local()  # the calling thread's stream
        self._stages = cycle([_Stage() for _ in range(_STAGES)])
        self._copies: Copies = copy_runs if why_not_compiled() else kernel_copies()

    def enter(self) -> None:
        """See ``device.Device``; what other threads gave the GPU before is done then, such as filling its memory.

        A stream of one's own waits for no other, nor for the default one, in which threads work that did not enter.
        """
        torch.cuda.set_device(self.place)
        torch.cuda.synchronize()
        if not hasattr(self._own, "stream"):  # one for all times: what is kept by stream is kept once
            self._own.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        torch.cuda.set_stream(self._own.stream)

    def freight(self) -> CudaFreight:
        """See ``device.Device``."""
        return CudaFreight(self.place, next(self._stages))

    def recorder(self) -> CudaRecorder:
        """See ``device.Device``."""
        return CudaRecorder()

    def fetch(self, tensor: torch.Tensor) -> NDArray[Any]:
        """See ``device.Device``; into pinned memory."""
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        array: NDArray[Any] = host.numpy()
        return array

    def fence(self) -> torch.cuda.Event:
        """See ``device.Device``."""
        event = _event()
        event.record()
        return event

    def settle(self, fence: torch.cuda.Event) -> None:
        """See ``device.Device``."""
        fence.synchronize()

    def wait(self, fence: torch.cuda.Event) -> None:
        """See ``device.Device``."""
        torch.cuda.current_stream().wait_event(fence)

    def seconds(self, began: torch.cuda.Event, ended: torch.cuda.Event) -> float:
        """See ``device.Device``."""
        return float(began.elapsed_time(ended)) / 1e3

    def memory(self, size: int) -> torch.Tensor:
        """See ``device.Device``; one allocation."""
        return torch.zeros(size, dtype=torch.uint8, device=self.place)

    def host_memory(self, size: int) -> torch.Tensor:
        """See ``device.Device``; all of it is committed and pinned at once.

        Raises:
            MemoryError: the system pins no more.
        """
        pinned, runtime = arena(size, torch.uint8), torch.cuda.cudart()  # type: ignore[no-untyped-call]
        if error := int(runtime.cudaHostRegister(pinned.data_ptr(), size, 0)):  # an enum: as such always true
            raise MemoryError(f"--host-cache-memory: {format_bytes(size)} cannot be pinned (CUDA error {error})")
        weakref.finalize(pinned.untyped_storage(), runtime.cudaHostUnregister, pinned.data_ptr())
        return pinned

    def move(self, arena_L2NGPD: torch.Tensor, moves: Sequence[Move]) -> None:
        """See ``device.Device``; in the calling thread's stream, by one launch for all that are independent."""
        self._copies(arena_L2NGPD, moves)

    def copy(self, source_L2NGPD: torch.Tensor, target_L2NGPD: torch.Tensor) -> None:
        """See ``device.Device``. Each piece is a copy by itself: of one that is not contiguous torch makes another."""
        for source_2NGPD, target_2NGPD in zip(source_L2NGPD, target_L2NGPD, strict=True):
            target_2NGPD[0].copy_(source_2NGPD[0], non_blocking=True)
            target_2NGPD[1].copy_(source_2NGPD[1], non_blocking=True)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
