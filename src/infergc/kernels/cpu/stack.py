"""All layers of a decoder in one call of the C++ side.

Shapes: T tokens, E hidden, R = head dim / 2, N pages, G KV heads, P tokens in a page, D head dim.
"""

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass

import torch

from infergc.kernels.cpu.backend import CpuAttention, CpuStep, check
from infergc.kernels.cpu.dense import CpuOps, PackedMatrix
from infergc.kernels.cpu.library import load


@dataclass(frozen=True, slots=True)
class StackShape:
    """The widths of a decoder's layers, and its constants."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float  # of every norm
    scale: float  # of query-key products


@dataclass(frozen=True, slots=True)
class StackLayer:
    """What one layer is computed from: packed weights and its KV storage."""

    attention_norm_E: torch.Tensor
    qkv: PackedMatrix
    q_norm_D: torch.Tensor | None
    k_norm_D: torch.Tensor | None
    out: PackedMatrix
    mlp_norm_E: torch.Tensor
    gate_up: PackedMatrix
    down: PackedMatrix
    k_NGPD: torch.Tensor
    v_NGPD: torch.Tensor
    group: int  # index of its layer group
    window: int | None


class LayerStack:
    """The layers over their KV storage, with memory of their own for what lies between the kernels.

    Args:
        shape: of every layer.
        layers: in order.
        norm_E: weight of the norm after the last layer.
        ops: multiplies and works on rows.
        attention: writes and reads the storage.
    """

    def __init__(
        self,
        shape: StackShape,
        layers: Sequence[StackLayer],
        norm_E: torch.Tensor,
        ops: CpuOps,
        attention: CpuAttention,
    ) -> None:
        self._lib = load()
        self._kept = (layers, ops, attention)  # the C++ side holds only pointers into them
        self._norm_E = norm_E
        rows = (_Layer * len(layers))(*(_layer(layer) for layer in layers))
        fields = _Shape(
            len(layers), shape.hidden, shape.intermediate, shape.heads, shape.kv_heads, shape.head_dim,
            norm_E.itemsize, shape.eps, shape.scale,
        )  # fmt: skip
        self._stack = self._lib.infergc_stack(ops.handle, attention.handle, ctypes.byref(fields), rows)
        if self._stack is None:
            raise MemoryError("no memory for the decoder's layers")
        weakref.finalize(self, self._lib.infergc_stack_free, self._stack)

    def run(
        self, hidden_TE: torch.Tensor, cos_TR: torch.Tensor, sin_TR: torch.Tensor, steps: Sequence[CpuStep]
    ) -> torch.Tensor:
        """Take embedded tokens through every layer and the last norm, ``[T, E]``; hidden is overwritten.

        Args:
            hidden_TE: contiguous.
            cos_TR: contiguous, of the tokens' positions.
            sin_TR: likewise.
            steps: what attention has planned for each layer group.

        Raises:
            ValueError: a page table names pages that storage does not have, or that were released.
        """
        out_TE = torch.empty_like(hidden_TE)
        plans = (c_void_p * len(steps))(*(step.handle for step in steps))
        pointers = (x.data_ptr() for x in (cos_TR, sin_TR, self._norm_E, out_TE))
        check(self._lib.infergc_stack_run(self._stack, plans, hidden_TE.data_ptr(), len(hidden_TE), *pointers))
        return out_TE


class _Layer(ctypes.Structure):
    """As Layer in stack_api.cpp."""

    _fields_ = [
        *((name, c_void_p) for name in ("attention_norm", "q_norm", "k_norm", "mlp_norm")),
        *((name, c_void_p) for name in ("qkv", "out", "gate_up", "down")),
        *((name, c_void_p) for name in ("qkv_bias", "out_bias", "gate_up_bias", "down_bias")),
        *((name, c_void_p) for name in ("k_pages", "v_pages")),
        ("page_count", c_int64),
        ("group", c_int),
        ("window", c_int),
    ]


class _Shape(ctypes.Structure):
    """As StackShape in stack_api.cpp."""

    _fields_ = [
        *((name, c_int) for name in ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "element")),
        ("eps", c_float),
        ("scale", c_float),
    ]


def _layer(layer: StackLayer) -> _Layer:
    matrices = (layer.qkv, layer.out, layer.gate_up, layer.down)
    tensors = (
        *(layer.attention_norm_E, layer.q_norm_D, layer.k_norm_D, layer.mlp_norm_E),
        *(matrix.panels for matrix in matrices),
        *(matrix.bias_N for matrix in matrices),
        *(layer.k_NGPD, layer.v_NGPD),
    )
    pointers = (None if x is None else x.data_ptr() for x in tensors)
    return _Layer(*pointers, min(len(layer.k_NGPD), len(layer.v_NGPD)), layer.group, layer.window or 0)
