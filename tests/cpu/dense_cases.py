"""What kernels for the dense work around attention have to give, wherever they run: torch's own is the oracle.

Shapes: T tokens, E hidden, H heads, D head dim.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from infergc.kernels.api import DenseOps, Rotation
from infergc.kernels.torch_ops import TorchOps

# Of the greatest value of a result. Kernels round once where torch rounds after each of up to six operations.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 6 * 2**-8, torch.float16: 6 * 2**-11}
WIDTHS = (2, 8, 72, 131, 768, 2050)  # powers of two, even, odd, over a block
ROWS = (1, 5)
MARK = -77.0  # stands wherever nothing may be written

Case = Callable[[DenseOps, torch.Tensor], torch.Tensor]


def normal(*shape: int, like: torch.Tensor) -> torch.Tensor:
    """The same numbers for one shape, wherever they are wanted."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(like)


def strided(x: torch.Tensor, beside: int = 8) -> torch.Tensor:
    """The same rows, a stretch of ``MARK`` beside each."""
    size = x.shape[1:].numel()
    wide = torch.full((len(x), size + beside), MARK, dtype=x.dtype, device=x.device)
    rows = wide[:, :size].unflatten(1, x.shape[1:])
    rows.copy_(x)
    return rows


def beside(rows: torch.Tensor) -> torch.Tensor:
    """What lies beside ``strided`` rows."""
    stride = rows.stride(0)
    return rows.as_strided((len(rows), stride), (stride, 1))[:, rows.shape[1:].numel() :]


def add_norm(ops: DenseOps, x_TE: torch.Tensor) -> torch.Tensor:
    hidden_TE, delta_TE = strided(x_TE), strided(x_TE.flip(1), 24)
    out_TE = ops.add_norm(hidden_TE, delta_TE, normal(x_TE.shape[1], like=x_TE), 1e-6)
    assert torch.equal(delta_TE, x_TE.flip(1)), "what is added is only read"
    assert bool((beside(hidden_TE) == MARK).all())
    return torch.cat([out_TE, hidden_TE], dim=1)


def only_norm(ops: DenseOps, x_TE: torch.Tensor) -> torch.Tensor:
    hidden_TE = strided(x_TE)
    out_TE = ops.add_norm(hidden_TE, None, normal(x_TE.shape[1], like=x_TE), 0.3)
    assert torch.equal(hidden_TE, x_TE), "without a delta hidden is only read"
    return out_TE


def silu_mul(ops: DenseOps, x_TE: torch.Tensor) -> torch.Tensor:
    gate_up = strided(6 * torch.cat([x_TE, x_TE.flip(1)], dim=1))
    kept = gate_up.clone()
    out = ops.silu_mul(gate_up)
    assert torch.equal(gate_up, kept)
    return out


def rotation_of(x_TE: torch.Tensor, dims: int, queries: int, normed: str) -> Rotation:
    """Norms of queries ("q"), of keys ("k") or both. For cosines any numbers do: here the rows' own."""
    cos_TR, sin_TR = x_TE[:, : dims // 2].contiguous(), x_TE[:, -(dims // 2) :].contiguous()
    norms = [normal(dims + at, like=x_TE)[:dims] if name in normed else None for at, name in enumerate("qk")]
    return Rotation(cos_TR, sin_TR, queries, *norms, 1e-6)


def rotated(normed: str) -> Case:
    """Of five heads two are queries, two are keys, and the last, which is not turned, is a value."""

    def rotate(ops: DenseOps, x_TE: torch.Tensor) -> torch.Tensor:
        dims = x_TE.shape[1] // 2 * 2
        x_THD = strided(torch.stack([x_TE[:, :dims] * (head + 1) for head in range(5)], dim=1))
        value_TD = x_THD[:, 4].clone()
        ops.rotate(x_THD[:, :4], rotation_of(x_TE, dims, 2, normed))
        assert torch.equal(x_THD[:, 4], value_TD)
        assert bool((beside(x_THD) == MARK).all())
        return x_THD[:, :4].flatten(1)

    return rotate


CASES: dict[str, Case] = {
    "add_norm": add_norm,
    "norm": only_norm,
    "silu_mul": silu_mul,
    **{f"rotate_{normed or 'plain'}": rotated(normed) for normed in ("", "q", "k", "qk")},
}


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.dtype is expected.dtype
    assert actual.shape == expected.shape
    error = (actual.double() - expected.double()).abs().max() / expected.double().abs().max()
    assert error <= TOLERANCE[actual.dtype], error


@dataclass(frozen=True)
class DenseSubject:
    """Operations under test, and where they run."""

    ops: DenseOps
    device: str

    def numbers(self, rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        """Rows of normal numbers, [rows, width]."""
        return normal(rows, width, like=torch.empty(0, dtype=dtype, device=self.device))

    def equals_torch(self, case: str, x_TE: torch.Tensor) -> None:
        """The kernels give what torch gives, in the same places."""
        close(CASES[case](self.ops, x_TE), CASES[case](TorchOps(), x_TE))

    def rows_stand_alone(self, case: str, x_TE: torch.Tensor) -> None:
        """A row's bits are the same whatever rows are computed beside it, and wherever it stands among them."""
        whole = CASES[case](self.ops, x_TE)
        for rows in ROWS:
            for first in (0, len(x_TE) - rows):
                part = slice(first, first + rows)
                assert torch.equal(CASES[case](self.ops, x_TE[part]), whole[part])
