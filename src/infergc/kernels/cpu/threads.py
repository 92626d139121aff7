"""The threads that the C++ kernels of one engine share."""

import os
import weakref
from functools import cached_property

from infergc.kernels.cpu.library import load


class CpuThreads:
    """A pool of threads, started when the first kernels ask for it. One caller at a time.

    Args:
        count: threads, the caller's among them; 0 for all cores.
    """

    def __init__(self, count: int = 0) -> None:
        self.count = count or len(os.sched_getaffinity(0))

    @cached_property
    def handle(self) -> int:
        """The C++ side's pool; it lives as long as this object.

        Raises:
            LibraryMissingError: the kernels are not compiled.
            MemoryError: there are not so many threads to be had.
        """
        library = load()
        pool: int | None = library.infergc_pool(self.count)
        if pool is None:
            raise MemoryError(f"--threads: the system does not grant {self.count}")
        weakref.finalize(self, library.infergc_pool_free, pool)
        return pool
