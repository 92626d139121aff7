"""The dense work of a decoder in plain torch, for any device: the oracle, and what runs where nothing better does.

Shapes: T tokens, K inputs and N outputs of a matrix, E hidden, F intermediate, H heads, D head dim, R = D / 2.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from infergc.kernels.api import Rotation


@dataclass(frozen=True, slots=True)
class TorchMatrix:
    """A matrix as it was loaded."""

    weight_NK: torch.Tensor
    bias_N: torch.Tensor | None


class TorchOps:
    """Implements ``api.DenseOps``."""

    def pack(
        self,
        weight_NK: torch.Tensor,
        bias_N: torch.Tensor | None,
        *,
        consume: bool = False,  # noqa: ARG002 - the protocol's
    ) -> TorchMatrix:
        """See ``DenseOps``; the matrix is used as it is."""
        return TorchMatrix(weight_NK, bias_N)

    def linear(self, x_TK: torch.Tensor, matrix: TorchMatrix) -> torch.Tensor:
        """See ``DenseOps``."""
        return functional.linear(x_TK, matrix.weight_NK, matrix.bias_N)

    def embed(self, ids_T: torch.Tensor, matrix: TorchMatrix) -> torch.Tensor:
        """See ``DenseOps``."""
        return functional.embedding(ids_T, matrix.weight_NK)

    def add_norm(
        self, hidden_TE: torch.Tensor, delta_TE: torch.Tensor | None, weight_E: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See ``DenseOps``."""
        if delta_TE is not None:
            hidden_TE += delta_TE
        return norm(hidden_TE, weight_E, eps)

    def silu_mul(self, gate_up_TF: torch.Tensor) -> torch.Tensor:
        """See ``DenseOps``."""
        gate_TF, up_TF = gate_up_TF.chunk(2, dim=-1)
        return functional.silu(gate_TF).mul_(up_TF)

    def rotate(self, heads_THD: torch.Tensor, rotation: Rotation) -> None:
        """See ``DenseOps``."""
        q_THD, k_TGD = heads_THD.tensor_split([rotation.num_heads], dim=1)
        for x_THD, weight_D in ((q_THD, rotation.q_norm_D), (k_TGD, rotation.k_norm_D)):
            if weight_D is not None:
                x_THD.copy_(norm(x_THD, weight_D, rotation.eps))
        cos_T1R, sin_T1R = rotation.cos_TR.unsqueeze(1), rotation.sin_TR.unsqueeze(1)
        low_THR, high_THR = heads_THD.chunk(2, dim=-1)
        turned_THR = low_THR * cos_T1R - high_THR * sin_T1R
        high_THR.mul_(cos_T1R).add_(low_THR * sin_T1R)
        low_THR.copy_(turned_THR)


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm over the last axis, as ``DenseOps.add_norm`` says."""
    x_f32 = x.float()
    return weight * (x_f32 * torch.rsqrt(x_f32.square().mean(-1, keepdim=True) + eps)).to(x.dtype)
