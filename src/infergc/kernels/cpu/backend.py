"""The CPU backend: plans and pointers handed to the C++ kernels.

Shapes: T tokens of the step, S rows, H query heads, G KV heads, D head dim, N pages, P tokens in a page,
E extents.
"""

import ctypes
import weakref
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from infergc.kernels.api import AttentionNeeds, BatchLayout
from infergc.kernels.capabilities import Capabilities
from infergc.kernels.checks import page_count, token_stride
from infergc.kernels.cpu.library import DTYPES, LibraryMissingError, choose_variant, load
from infergc.kernels.cpu.threads import CpuThreads
from infergc.sched.plan import I32

_ERRORS = {  # as Error in api.hpp
    1: "the page table names a page that storage does not have",
    2: "a row's window reaches into pages that its table has released",
}
_NO_MEMORY = 3


@dataclass(frozen=True, slots=True, weakref_slot=True)
class CpuStep:
    """A planned step: a handle of the C++ side, freed with this object."""

    handle: int
    tokens: int


class CpuAttention:
    """Attention in C++, for one shape.

    The instruction set is chosen when this is made. Steps may be planned ahead, and from another thread;
    write and attend are called from one thread at a time, since they share the engine's memory.

    Attributes:
        isa: the instruction set that runs.
        threads: threads at work, the caller's among them.
        handle: of the C++ side.

    Raises:
        ValueError: ``isa`` is not compiled in, or not supported by this machine.
        MemoryError: no memory or no threads for the kernels.
        LibraryMissingError: nothing was compiled.
    """

    name = "cpu"
    capabilities: ClassVar[Capabilities] = Capabilities(
        devices=frozenset({"cpu"}),
        dtypes=frozenset(DTYPES),
        head_dim_step=8,
        head_dim_max=256,
        page_tokens=frozenset({8, 16, 32, 64}),
    )

    def __init__(self, needs: AttentionNeeds, threads: CpuThreads, isa: str = "auto") -> None:
        self._lib = load()
        self._needs = needs
        self._dtype = needs.dtype
        self.threads = threads.count
        self._pool = threads  # the C++ side keeps only its handle
        self.isa, index = choose_variant(isa)
        shape = (needs.num_heads, needs.num_kv_heads, needs.head_dim, needs.page_tokens, DTYPES[needs.dtype])
        self.handle = self._lib.infergc_engine(index, *shape, threads.handle)
        if self.handle is None:
            raise MemoryError("no memory for attention kernels")
        weakref.finalize(self, self._lib.infergc_engine_free, self.handle)

    @staticmethod
    def unavailable() -> str | None:
        """Why this backend cannot run on this machine at all; None when it can."""
        try:
            load()
        except LibraryMissingError as error:
            return str(error)
        return None

    def plan(self, layout: BatchLayout) -> CpuStep:
        """Copy the tables to the C++ side.

        Raises:
            ValueError: a row's table does not hold the positions that the row computes.
        """
        table = layout.table
        rows, extents = table.first.shape
        bad_row = ctypes.c_int()
        arrays = (layout.starts, layout.counts, table.skipped, table.first, table.pages)
        keep = [np.ascontiguousarray(array, dtype=np.int32) for array in arrays]
        pointers = [array.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)) for array in keep]
        handle = self._lib.infergc_plan(self.handle, rows, extents, *pointers, ctypes.byref(bad_row))
        if handle is None:
            raise _plan_error(layout, bad_row.value)
        step = CpuStep(handle, int(layout.counts.sum()))
        weakref.finalize(step, self._lib.infergc_plan_free, handle)
        return step

    def write(
        self, step: CpuStep, k_TGD: torch.Tensor, v_TGD: torch.Tensor, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor
    ) -> None:
        """Store the step's K and V in their pages; both may be slices of a fused projection.

        Raises:
            ValueError: a shape, dtype or stride is not what this backend was made for.
        """
        k, k_stride = self._tokens(step, k_TGD, self._needs.num_kv_heads)
        v, v_stride = self._tokens(step, v_TGD, self._needs.num_kv_heads)
        k_pages, v_pages, count = self._storage(k_NGPD, v_NGPD)
        lib, engine = self._lib, self.handle
        check(lib.infergc_write(engine, step.handle, k, v, k_stride, v_stride, k_pages, v_pages, count))

    def attend(
        self,
        step: CpuStep,
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Causal attention over the step's pages, as the protocol says; q may be a slice, as in write.

        Raises:
            ValueError: a shape, dtype or stride is not what this backend was made for, or a row's window
                reaches into released pages.
        """
        q, stride = self._tokens(step, q_THD, self._needs.num_heads)
        k_pages, v_pages, count = self._storage(k_NGPD, v_NGPD)
        out_THD = torch.empty(q_THD.shape, dtype=self._dtype)
        out, window = out_THD.data_ptr(), window or 0
        lib, engine = self._lib, self.handle
        check(lib.infergc_attend(engine, step.handle, q, stride, k_pages, v_pages, count, out, scale, window))
        return out_THD

    def _tokens(self, step: CpuStep, x_THD: torch.Tensor, heads: int) -> tuple[int, int]:
        """Check a tensor of the step; return its address and its token stride in elements."""
        return x_THD.data_ptr(), token_stride(x_THD, step.tokens, heads, self._needs)

    def _storage(self, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor) -> tuple[int, int, int]:
        """Check storage; return its addresses and the number of pages."""
        return k_NGPD.data_ptr(), v_NGPD.data_ptr(), page_count(k_NGPD, v_NGPD, self._needs)


def _plan_error(layout: BatchLayout, row: int) -> Exception:
    if row < 0:
        return MemoryError("no memory to plan attention")
    start, count, table = layout.starts[row], layout.counts[row], layout.table
    return ValueError(
        f"row {row} computes positions {start} … {start + count - 1}, but its table skips "
        f"{table.skipped[row]} pages and holds {_extents(table.first[row], table.pages[row])} (first page + pages)"
    )


def _extents(first_E: I32, pages_E: I32) -> str:
    return ", ".join(f"{f}+{n}" for f, n in zip(first_E, pages_E, strict=True) if n)


def check(code: int) -> None:
    """Raise what a code of the C++ side stands for.

    Raises:
        MemoryError: the system grants no more for what lies between kernels.
        ValueError: a page table does not suit the storage.
    """
    if code == _NO_MEMORY:
        raise MemoryError("no memory for a step's intermediate results")
    if code:
        raise ValueError(_ERRORS[code])
