"""An NVIDIA GPU as a ``Device``: streams, events, and pinned memory on the way there and back."""

import weakref
from collections.abc import Sequence
from itertools import accumulate, cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.heap.moves import Move
from infergc.kernels.registry import why_not_compiled
from infergc.worker.arena import arena
from infergc.worker.copies import Copies, copy_runs, kernel_copies

_ALIGNMENT = 16  # bytes: what any type of ours and any vector load asks for
_STAGES = 4  # steps in flight and one being made: none waits for a copy of its own


class CudaFetch:
    """A tensor on its way into pinned memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._event = _event()
        self._event.record()

    def done(self) -> bool:
        """See ``device.Fetch``."""
        return bool(self._event.query())  # type: ignore[no-untyped-call]

    def result(self) -> NDArray[Any]:
        """See ``device.Fetch``."""
        self._event.synchronize()
        array: NDArray[Any] = self._host.numpy()
        return array


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


class CudaDevice:
    """Implements ``device.Device``. ``upload`` is used by one thread.

    Args:
        index: of the GPU.
    """

    def __init__(self, index: int = 0) -> None:
        self.place = torch.device("cuda", index)
        self._stages = cycle([_Stage() for _ in range(_STAGES)])
        self._copies: Copies = copy_runs if why_not_compiled() else kernel_copies()

    def enter(self) -> None:
        """See ``device.Device``; what other threads gave the GPU before is done then, such as filling its memory.

        A stream of one's own waits for no other, nor for the default one, in which threads work that did not enter.
        """
        torch.cuda.set_device(self.place)
        torch.cuda.synchronize()
        torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]

    def upload(self, arrays: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
        """See ``device.Device``."""
        ends = list(accumulate(-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays))
        stage, starts = next(self._stages), [0, *ends[:-1]]
        memory = stage.reserve(ends[-1] if ends else 0)
        for start, array in zip(starts, arrays, strict=True):
            memory[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        there = torch.empty(len(memory), dtype=torch.uint8, device=self.place)
        there.copy_(stage.host[: len(memory)], non_blocking=True)
        stage.free.record()
        kinds = [torch.from_numpy(np.empty(0, array.dtype)).dtype for array in arrays]
        return [
            there[start : start + array.nbytes].view(kind).view(array.shape)
            for start, array, kind in zip(starts, arrays, kinds, strict=True)
        ]

    def fetch(self, tensor: torch.Tensor) -> CudaFetch:
        """See ``device.Device``."""
        return CudaFetch(tensor)

    def fence(self) -> torch.cuda.Event:
        """See ``device.Device``."""
        event = _event()
        event.record()
        return event

    def wait(self, fence: torch.cuda.Event) -> None:
        """See ``device.Device``."""
        torch.cuda.current_stream().wait_event(fence)

    def seconds(self, began: torch.cuda.Event, ended: torch.cuda.Event) -> float:
        """See ``device.Device``; it waits for the second, which may lie behind all that is fetched of a step."""
        ended.synchronize()
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
            raise MemoryError(f"no {size} bytes of host memory can be pinned (CUDA error {error}); see ulimit -l")
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
