"""Muon, an optimizer for matrices: momentum whose update is made nearly orthogonal before it is applied.

On this model it needs about half of AdamW's tokens for the same loss, for a sixth more arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay; for parameters of two dimensions only.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). The update is
    scaled by 0.2·√max(rows, columns), so that learning rates are AdamW's (J. Liu et al., "Muon is scalable for
    LLM training", 2025, section 2.2). Updates are made orthogonal in bf16, as Jordan's are.
    """

    def __init__(
        self, matrices: Iterable[torch.Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient. Unlike in the base class, there is no closure."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                average = self.state[matrix].setdefault("average", torch.zeros_like(matrix))
                average.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalised(matrix.grad.lerp(average, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """Move the singular values of `matrix` to about one, by five rounds of a Newton-Schulz iteration."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]  # iterate over the smaller Gram matrix
    x: torch.Tensor = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
