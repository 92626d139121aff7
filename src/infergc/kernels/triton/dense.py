"""The dense work around attention in fused kernels: what lies between matrix products is read and written once.

Values are float32 from load to store. A row's bits depend on the row alone: a program takes a row, or a head of it, and
the order of its sums follows from the row's width. Products are torch's, which choose their order by the whole step.

Shapes: T tokens, E hidden, F intermediate, H heads, D head dim, R = D / 2.
"""

import torch
import triton
import triton.language as tl

from infergc.kernels.api import Rotation
from infergc.kernels.torch_ops import TorchOps

_BLOCK = 1024  # elements that one program of ``silu_mul`` works on: two vectors of 16 bytes a thread, in 16 bits
_SUMMED = 512  # elements that a warp sums: few enough for its registers, enough for vectors of 16 bytes
_MOST_WARPS = 16  # of a program that sums a row


class TritonOps(TorchOps):
    """Implements ``api.DenseOps`` on a GPU; rows may be strided, their values lie side by side.

    ``linear`` and ``embed`` are torch's. An id that is no row of the matrix ends the process's use of the GPU, as torch
    has it there, and raises no IndexError in time.
    """

    def add_norm(
        self, hidden_TE: torch.Tensor, delta_TE: torch.Tensor | None, weight_E: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See ``DenseOps``; a program takes a row.

        Raises:
            ValueError: a shape, dtype or stride does not fit the others.
        """
        shape, kind = tuple(hidden_TE.shape), hidden_TE.dtype
        delta = hidden_TE if delta_TE is None else delta_TE
        for x, expected in ((hidden_TE, shape), (delta, shape), (weight_E, shape[1:])):
            _check(x, expected, kind)
        out_TE = torch.empty(shape, dtype=kind, device=hidden_TE.device)
        tokens, width = shape
        if tokens:
            block = triton.next_power_of_2(width)
            add_and_norm[(tokens,)](
                hidden_TE, delta, weight_E, out_TE, hidden_TE.stride(0), delta.stride(0), out_TE.stride(0), width, eps,
                ADDS=delta_TE is not None, BLOCK=block, num_warps=max(1, min(_MOST_WARPS, block // _SUMMED)),
            )  # fmt: skip
        return out_TE

    def silu_mul(self, gate_up_TF: torch.Tensor) -> torch.Tensor:
        """See ``DenseOps``; a program takes a piece of a row.

        Raises:
            ValueError: the values of a row do not lie side by side, or are not two halves.
        """
        tokens, both = gate_up_TF.shape
        _check(gate_up_TF, (tokens, both // 2 * 2), gate_up_TF.dtype)
        out_TF = gate_up_TF.new_empty(tokens, both // 2)
        if tokens:
            grid = (tokens, triton.cdiv(both // 2, _BLOCK))
            silu_and_multiply[grid](
                gate_up_TF, out_TF, gate_up_TF.stride(0), out_TF.stride(0), both // 2, BLOCK=_BLOCK, num_warps=4
            )
        return out_TF

    def rotate(self, heads_THD: torch.Tensor, rotation: Rotation) -> None:
        """See ``DenseOps``; a program takes a head of a token.

        Raises:
            ValueError: a shape, dtype or stride does not fit the others.
        """
        (tokens, heads, dims), kind = heads_THD.shape, heads_THD.dtype
        cos, sin, pairs = rotation.cos_TR, rotation.sin_TR, dims // 2
        q_norm, k_norm = (cos if norm is None else norm for norm in (rotation.q_norm_D, rotation.k_norm_D))
        _check(heads_THD, (tokens, heads, 2 * pairs), kind)
        for angles in (cos, sin):
            _check(angles, (tokens, pairs), kind)
            if not angles.is_contiguous():
                raise ValueError("cosines and sines are read without a stride, and these have one")
        for norm in (rotation.q_norm_D, rotation.k_norm_D):
            if norm is not None:
                _check(norm, (dims,), kind)
        if tokens:
            rotate_head[(tokens, heads)](
                heads_THD, cos, sin, q_norm, k_norm, *heads_THD.stride()[:2], rotation.num_heads, pairs, rotation.eps,
                Q_NORMED=rotation.q_norm_D is not None, K_NORMED=rotation.k_norm_D is not None,
                BLOCK=triton.next_power_of_2(pairs), num_warps=1,
            )  # fmt: skip


def _check(x: torch.Tensor, shape: tuple[int, ...], kind: torch.dtype) -> None:
    """Refuse what kernels would read past its end, or as something else."""
    if tuple(x.shape) != shape or x.dtype is not kind or x.stride(-1) != 1:
        raise ValueError(
            f"expected {kind} {list(shape)} whose last values lie side by side, not {x.dtype} {list(x.shape)} with "
            f"strides {list(x.stride())}"
        )


@triton.jit
def add_and_norm(
    hidden: tl.tensor,
    delta: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    hidden_stride: tl.tensor,
    delta_stride: tl.tensor,
    out_stride: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    ADDS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program a row: hidden += delta, where it ADDS, and out = the norm of what hidden then holds."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    kind = out.dtype.element_ty
    hidden_at = hidden + row * hidden_stride + at
    x = tl.load(hidden_at, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        x += tl.load(delta + row * delta_stride + at, mask=inside, other=0.0).to(tl.float32)
        x = x.to(kind).to(tl.float32)
        tl.store(hidden_at, x.to(kind), mask=inside)
    scale = tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)
    normed = (x * scale).to(kind).to(tl.float32)
    gain = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_stride + at, (gain * normed).to(kind), mask=inside)


@triton.jit
def silu_and_multiply(
    gate_up: tl.tensor,
    out: tl.tensor,
    in_stride: tl.tensor,
    out_stride: tl.tensor,
    width: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """One program for each BLOCK values of a row's ``width``."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate_at = gate_up + row * in_stride + at
    gate = tl.load(gate_at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_at + width, mask=inside, other=0.0).to(tl.float32)
    silu = gate / (1.0 + tl.exp(-gate))
    tl.store(out + row * out_stride + at, (silu * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def rotate_head(
    heads: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    q_norm: tl.tensor,
    k_norm: tl.tensor,
    token_stride: tl.tensor,
    head_stride: tl.tensor,
    queries: tl.tensor,
    pairs: tl.tensor,
    eps: tl.tensor,
    Q_NORMED: tl.constexpr,
    K_NORMED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program for each head of a token; the first ``queries`` heads are queries."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = tl.arange(0, BLOCK)
    inside = at < pairs
    low_at = heads + token * token_stride + head * head_stride + at
    low = tl.load(low_at, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(low_at + pairs, mask=inside, other=0.0).to(tl.float32)
    if Q_NORMED and head < queries:
        low, high = _normed(low, high, q_norm + at, inside, pairs, eps)
    if K_NORMED and head >= queries:
        low, high = _normed(low, high, k_norm + at, inside, pairs, eps)
    turn_at = token * pairs + at
    cosine = tl.load(cos + turn_at, mask=inside, other=0.0).to(tl.float32)
    sine = tl.load(sin + turn_at, mask=inside, other=0.0).to(tl.float32)
    kind = heads.dtype.element_ty
    tl.store(low_at, (low * cosine - high * sine).to(kind), mask=inside)
    tl.store(low_at + pairs, (high * cosine + low * sine).to(kind), mask=inside)


@triton.jit
def _normed(
    low: tl.tensor, high: tl.tensor, weight_at: tl.tensor, inside: tl.tensor, pairs: tl.tensor, eps: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """RMSNorm over a head, of which low and high are the halves."""
    scale = tl.rsqrt(tl.sum(low * low + high * high, axis=0) / (2 * pairs) + eps)
    for_low = tl.load(weight_at, mask=inside, other=0.0).to(tl.float32)
    for_high = tl.load(weight_at + pairs, mask=inside, other=0.0).to(tl.float32)
    return low * scale * for_low, high * scale * for_high
