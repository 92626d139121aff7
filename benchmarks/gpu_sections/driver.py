"""Memory of a device taken buffer by buffer, and counted as the device's driver counts it."""

import ctypes
import mmap
from typing import Protocol

import torch


class OutOfMemoryError(RuntimeError):
    """The device has not as much left."""


class Memory(Protocol):
    """Where buffers come from."""

    def take(self, size: int) -> int:
        """The address of so many bytes of their own.

        Raises:
            OutOfMemoryError: there are not as many.
        """
        ...

    def give_back(self, address: int) -> None:
        """Free what ``take`` gave."""
        ...

    def held(self) -> int:
        """Bytes that are in use, whoever has them."""
        ...


class DriverMemory:
    """The NVIDIA driver's own allocations, past torch and its cache."""

    def __init__(self) -> None:
        torch.zeros(1, device="cuda")  # makes the context that allocations are made in
        self._driver = ctypes.CDLL("libcuda.so.1")

    def take(self, size: int) -> int:
        """See ``Memory``."""
        address = ctypes.c_uint64()
        status = self._driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size))
        if status:
            raise OutOfMemoryError(f"the driver refused {size:,} bytes (status {status})")
        return address.value

    def give_back(self, address: int) -> None:
        """See ``Memory``."""
        status = self._driver.cuMemFree_v2(ctypes.c_uint64(address))
        if status:
            raise RuntimeError(f"the driver did not take a buffer back (status {status})")

    def held(self) -> int:
        """See ``Memory``."""
        free, total = torch.cuda.mem_get_info()
        return total - free


class HostMemory:
    """Mapped memory of the host, to try the program with; what is counted is what was asked for."""

    def __init__(self) -> None:
        self._pieces: dict[int, mmap.mmap] = {}
        self._next = 0

    def take(self, size: int) -> int:
        """See ``Memory``."""
        self._next += 1
        self._pieces[self._next] = mmap.mmap(-1, size)
        return self._next

    def give_back(self, address: int) -> None:
        """See ``Memory``."""
        self._pieces.pop(address).close()

    def held(self) -> int:
        """See ``Memory``."""
        return sum(map(len, self._pieces.values()))
