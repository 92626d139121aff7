"""The dense work of a decoder in C++.

Shapes: T tokens, K inputs and N outputs of a matrix, E hidden, F intermediate, H heads, D head dim.
"""

import mmap
import weakref
from dataclasses import dataclass

import torch

from infergc.kernels.api import PACK_ROWS, Rotation
from infergc.kernels.cpu.library import DTYPES, choose_variant, load
from infergc.kernels.cpu.threads import CpuThreads

_COPIED = 4 << 20  # bytes of a matrix that are copied at once while it is packed in its own place


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix in panels: see linear.cpp."""

    outputs: int
    inputs: int
    panels: torch.Tensor  # bytes
    bias_N: torch.Tensor | None


class CpuOps:
    """Implements ``api.DenseOps`` for one dtype.

    Every result of a token depends on that token alone, bit for bit: not on the rows beside it, nor on threads.

    Attributes:
        isa: instruction set.
        threads: threads at work, the caller's among them.
        handle: of the C++ side.

    Args:
        dtype: of weights and activations.
        threads: shared with attention.
        isa: instruction set, or "auto" for the fastest that runs here.

    Raises:
        LibraryMissingError: the kernels are not compiled.
        ValueError: the instruction set does not run here.
    """

    def __init__(self, dtype: torch.dtype, threads: CpuThreads, isa: str = "auto") -> None:
        self._lib = load()
        self._dtype = dtype
        self.isa, index = choose_variant(isa)
        self.threads = threads.count
        self._pool = threads  # the C++ side keeps only its handle
        self.handle = self._lib.infergc_dense(index, DTYPES[dtype], threads.handle)
        if self.handle is None:
            raise MemoryError("no memory for matrix products")
        weakref.finalize(self, self._lib.infergc_dense_free, self.handle)

    def pack(self, weight_NK: torch.Tensor, bias_N: torch.Tensor | None, *, consume: bool = False) -> PackedMatrix:
        """See ``DenseOps``."""
        outputs, inputs = weight_NK.shape
        if bias_N is not None:
            self._vector(bias_N, outputs)
        if consume and self._has_room(weight_NK):
            return PackedMatrix(outputs, inputs, self._pack_in_place(weight_NK), bias_N)
        panels = torch.empty(self._packed_bytes(outputs, inputs), dtype=torch.uint8)
        weight = weight_NK.to(self._dtype).contiguous()
        self._lib.infergc_pack(self.handle, weight.data_ptr(), outputs, inputs, panels.data_ptr())
        return PackedMatrix(outputs, inputs, panels, bias_N)

    def linear(self, x_TK: torch.Tensor, matrix: PackedMatrix) -> torch.Tensor:
        """See ``DenseOps``."""
        rows, inputs = x_TK.shape
        x, stride = self._rows(x_TK)
        if inputs != matrix.inputs:
            raise ValueError(f"linear: {inputs} inputs, but the matrix has {matrix.inputs}")
        y_TN = torch.empty(rows, matrix.outputs, dtype=self._dtype)
        bias = None if matrix.bias_N is None else matrix.bias_N.data_ptr()
        code = self._lib.infergc_linear(
            self.handle, x, stride, rows, matrix.outputs, inputs, matrix.panels.data_ptr(), bias, y_TN.data_ptr()
        )
        if code:
            raise MemoryError(f"no memory to multiply {rows} rows of {inputs}")
        return y_TN

    def embed(self, ids_T: torch.Tensor, matrix: PackedMatrix) -> torch.Tensor:
        """See ``DenseOps``."""
        if ids_T.dtype is not torch.int64 or not ids_T.is_contiguous():
            raise ValueError(f"contiguous int64 ids are needed, not {ids_T.dtype} {ids_T.stride()}")
        y_TK = torch.empty(len(ids_T), matrix.inputs, dtype=self._dtype)
        shape, panels = (len(ids_T), matrix.outputs, matrix.inputs), matrix.panels.data_ptr()
        if self._lib.infergc_embed(self.handle, ids_T.data_ptr(), *shape, panels, y_TK.data_ptr()):
            raise IndexError(f"a token id is not below the vocabulary size, {matrix.outputs}")
        return y_TK

    def add_norm(
        self, hidden_TE: torch.Tensor, delta_TE: torch.Tensor | None, weight_E: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See ``DenseOps``."""
        rows, width = hidden_TE.shape
        out_TE = torch.empty(rows, width, dtype=self._dtype)
        hidden, weight = self._whole(hidden_TE, hidden_TE.shape), self._vector(weight_E, width)
        delta = None if delta_TE is None else self._whole(delta_TE, hidden_TE.shape)
        self._lib.infergc_add_norm(self.handle, hidden, delta, weight, eps, rows, width, out_TE.data_ptr())
        return out_TE

    def silu_mul(self, gate_up_TF: torch.Tensor) -> torch.Tensor:
        """See ``DenseOps``."""
        rows, width = gate_up_TF.shape
        out_TF = torch.empty(rows, width // 2, dtype=self._dtype)
        gate_up = self._whole(gate_up_TF, gate_up_TF.shape)
        self._lib.infergc_silu_mul(self.handle, gate_up, rows, width // 2, out_TF.data_ptr())
        return out_TF

    def rotate(self, heads_THD: torch.Tensor, rotation: Rotation) -> None:
        """See ``DenseOps``."""
        rows, heads, dims = heads_THD.shape
        stride, *inner = heads_THD.stride()
        if inner != [dims, 1] or heads_THD.dtype is not self._dtype:
            raise ValueError(f"rotate: heads of {self._dtype} side by side are needed, not {heads_THD.stride()}")
        norms = (rotation.q_norm_D, rotation.k_norm_D)
        q_norm, k_norm = (None if weight_D is None else self._vector(weight_D, dims) for weight_D in norms)
        cos, sin = (self._whole(x_TR, (rows, dims // 2)) for x_TR in (rotation.cos_TR, rotation.sin_TR))
        self._lib.infergc_rotate(
            self.handle, heads_THD.data_ptr(), stride, rows, rotation.num_heads, heads - rotation.num_heads, dims,
            cos, sin, q_norm, k_norm, rotation.eps,
        )  # fmt: skip

    def _packed_bytes(self, outputs: int, inputs: int) -> int:
        return int(self._lib.infergc_packed_bytes(self.handle, outputs, inputs))

    def _has_room(self, weight_NK: torch.Tensor) -> bool:
        """Whether rows lie where their panels will, and the storage holds what pads the last panel."""
        outputs, inputs = weight_NK.shape
        storage = weight_NK.untyped_storage()
        return (
            weight_NK.dtype is self._dtype
            and weight_NK.is_contiguous()
            and weight_NK.storage_offset() == 0
            and self._packed_bytes(PACK_ROWS, inputs) == PACK_ROWS * inputs * weight_NK.itemsize
            and self._packed_bytes(outputs, inputs) <= storage.nbytes()
        )

    def _pack_in_place(self, weight_NK: torch.Tensor) -> torch.Tensor:
        """Pack some whole panels of rows at a time, out of a copy of them; returns the panels."""
        outputs, inputs = weight_NK.shape
        row_bytes = inputs * weight_NK.itemsize
        many = max(1, _COPIED // (row_bytes * PACK_ROWS)) * PACK_ROWS
        # A mapping goes back to the system when it ends; freed blocks of the allocator may stay.
        room = mmap.mmap(-1, min(many, outputs) * row_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        copies_NK = torch.frombuffer(room, dtype=self._dtype).view(-1, inputs)
        for rows in torch.split(weight_NK, many):
            copy = copies_NK[: len(rows)].copy_(rows)
            self._lib.infergc_pack(self.handle, copy.data_ptr(), len(rows), inputs, rows.data_ptr())
        elements = self._packed_bytes(outputs, inputs) // weight_NK.itemsize
        return weight_NK.as_strided((elements,), (1,)).view(torch.uint8)  # the last panel's padding, too

    def _vector(self, x: torch.Tensor, width: int) -> int:
        """Check a bias or the weight of a norm; return its address."""
        return self._whole(x, (width,))

    def _whole(self, x: torch.Tensor, shape: tuple[int, ...]) -> int:
        """Check a contiguous tensor; return its address."""
        if x.shape != shape or x.dtype is not self._dtype or not x.is_contiguous():
            raise ValueError(
                f"expected contiguous {self._dtype} {list(shape)}, not {x.dtype} {list(x.shape)} "
                f"with strides {list(x.stride())}"
            )
        return x.data_ptr()

    def _rows(self, x_TK: torch.Tensor) -> tuple[int, int]:
        """Check rows; return their address and their stride in elements."""
        stride, inner = x_TK.stride()
        if inner != 1 or x_TK.dtype is not self._dtype:
            raise ValueError(f"rows of {self._dtype} are needed, each contiguous, not {x_TK.dtype} {x_TK.stride()}")
        return x_TK.data_ptr(), stride
