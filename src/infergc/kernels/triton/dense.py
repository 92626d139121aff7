"""The dense work around attention in fused kernels: what lies between matrix products is read and written once.

Shapes: T tokens, E hidden, F intermediate, H heads, D head dim, R = D / 2. Products are torch's.
"""

import torch
import triton
import triton.language as tl

from infergc.kernels.api import Rotation
from infergc.kernels.torch_ops import TorchOps

_BLOCK = 1024  # elements that one program of ``silu_mul`` works on


class TritonOps(TorchOps):
    """Implements ``api.DenseOps`` on a GPU."""

    def add_norm(
        self, hidden_TE: torch.Tensor, delta_TE: torch.Tensor | None, weight_E: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See ``DenseOps``; a program takes a row."""
        out_TE = torch.empty_like(hidden_TE)
        tokens, width = hidden_TE.shape
        if tokens:
            delta = hidden_TE if delta_TE is None else delta_TE
            strides = hidden_TE.stride(0), delta.stride(0), out_TE.stride(0)
            _add_norm[(tokens,)](
                hidden_TE, delta, weight_E, out_TE, *strides, width, eps,
                ADDS=delta_TE is not None, BLOCK=triton.next_power_of_2(width),
            )  # fmt: skip
        return out_TE

    def silu_mul(self, gate_up_TF: torch.Tensor) -> torch.Tensor:
        """See ``DenseOps``."""
        tokens, both = gate_up_TF.shape
        out_TF = gate_up_TF.new_empty(tokens, both // 2)
        if tokens:
            grid = (tokens, triton.cdiv(both // 2, _BLOCK))
            _silu_mul[grid](gate_up_TF, out_TF, gate_up_TF.stride(0), out_TF.stride(0), both // 2, BLOCK=_BLOCK)
        return out_TF

    def rotate(self, heads_THD: torch.Tensor, rotation: Rotation) -> None:
        """See ``DenseOps``; a program takes a head of a token, in float32 from load to store."""
        tokens, heads, dims = heads_THD.shape
        if not tokens:
            return
        q_norm_D, k_norm_D = rotation.q_norm_D, rotation.k_norm_D
        _rotate[(tokens, heads)](
            heads_THD, rotation.cos_TR, rotation.sin_TR,
            rotation.cos_TR if q_norm_D is None else q_norm_D, rotation.cos_TR if k_norm_D is None else k_norm_D,
            *heads_THD.stride()[:2], rotation.num_heads, dims // 2, rotation.eps,
            NORMS=q_norm_D is not None, BLOCK=triton.next_power_of_2(dims // 2),
        )  # fmt: skip


@triton.jit
def _add_norm(
    hidden, delta, weight, out, hidden_stride, delta_stride, out_stride, width, eps,
    ADDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    x = tl.load(hidden + row * hidden_stride + at, mask=inside, other=0.0)
    if ADDS:
        x += tl.load(delta + row * delta_stride + at, mask=inside, other=0.0)
        tl.store(hidden + row * hidden_stride + at, x, mask=inside)
    x_f32 = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x_f32 * x_f32, axis=0) / width + eps)
    normed = (x_f32 * scale).to(x.dtype)
    gain = tl.load(weight + at, mask=inside, other=0.0)
    tl.store(out + row * out_stride + at, gain * normed, mask=inside)


@triton.jit
def _silu_mul(gate_up, out, in_stride, out_stride, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate = tl.load(gate_up + row * in_stride + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * in_stride + width + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_stride + at, (gate / (1.0 + tl.exp(-gate)) * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _rotate(
    heads, cos, sin, q_norm, k_norm, token_stride, head_stride, queries, pairs, eps,
    NORMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = tl.arange(0, BLOCK)
    inside = at < pairs
    low_at = heads + token * token_stride + head * head_stride + at
    low = tl.load(low_at, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(low_at + pairs, mask=inside, other=0.0).to(tl.float32)
    if NORMS:
        scale = tl.rsqrt((tl.sum(low * low, axis=0) + tl.sum(high * high, axis=0)) / (2 * pairs) + eps)
        of_query, of_key = inside & (head < queries), inside & (head >= queries)
        for_low = tl.load(q_norm + at, mask=of_query, other=0.0) + tl.load(k_norm + at, mask=of_key, other=0.0)
        for_high = tl.load(q_norm + pairs + at, mask=of_query, other=0.0)
        for_high += tl.load(k_norm + pairs + at, mask=of_key, other=0.0)
        low = low * scale * for_low.to(tl.float32)
        high = high * scale * for_high.to(tl.float32)
    turn_at = token * pairs + at
    cosine = tl.load(cos + turn_at, mask=inside, other=0.0).to(tl.float32)
    sine = tl.load(sin + turn_at, mask=inside, other=0.0).to(tl.float32)
    kind = heads.dtype.element_ty
    tl.store(low_at, (low * cosine - high * sine).to(kind), mask=inside)
    tl.store(low_at + pairs, (high * cosine + low * sine).to(kind), mask=inside)
