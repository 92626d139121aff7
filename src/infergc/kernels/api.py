"""The kernel seams: paged attention, planned once per step and layer group, and the dense work around it.

Shapes: T tokens of the step, S rows (sequences), H query heads, G KV heads, D head dim, N pages of the
layer group's storage (or, of a matrix, its outputs), P tokens in a page, K inputs of a matrix, E hidden,
F intermediate.

KV of a layer is two tensors, K and V apart, each ``[N, G, P, D]``, so that a run of adjacent pages is one
contiguous piece.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from infergc.kernels.freight import Freight
from infergc.sched.plan import I32, PageTable

PACK_ROWS = 64  # outputs of a matrix that may be packed apart from the rest: a multiple of every layout's panel


@dataclass(frozen=True, slots=True)
class AttentionNeeds:
    """What a model asks of a backend."""

    device: str  # torch device type
    dtype: torch.dtype
    num_heads: int
    num_kv_heads: int
    head_dim: int
    page_tokens: int


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """Where the step's tokens lie.

    Row r computes positions starts[r] … starts[r] + counts[r] - 1 and attends to positions 0 … of its own
    sequence, as far as the group's window reaches.
    """

    starts: I32  # [S]
    counts: I32  # [S]
    table: PageTable


class AttentionBackend(Protocol):
    """Paged attention for prefill chunks and decode in one call."""

    name: str

    def plan(self, layout: BatchLayout, freight: Freight | None = None) -> Any:
        """Prepare what all layers of a group share in this step; the result is passed to write and attend.

        What the device has to know of it goes by the freight, which leaves before the first write; without one it goes
        at once.
        """
        ...

    def write(
        self, step: Any, k_TGD: torch.Tensor, v_TGD: torch.Tensor, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor
    ) -> None:
        """Store the step's new K and V in their pages. Rows may be strided, heads and dims are contiguous."""
        ...

    def attend(
        self,
        step: Any,
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Causal attention of each token over its sequence's pages; position p sees p - window + 1 … p.

        Returns:
            out_THD in q's dtype. Softmax and accumulation are in float32. The result of a token does not
            depend on the batch around it nor on how its prompt was cut into chunks: bitwise the same.
        """
        ...


class DenseOps(Protocol):
    """What a decoder computes beside attention.

    A tensor that is given a result's dtype and device is of the model's. ``Any`` stands for a packed matrix: what
    ``pack`` returns, which only the same operations understand.
    """

    def pack(self, weight_NK: torch.Tensor, bias_N: torch.Tensor | None, *, consume: bool = False) -> Any:
        """Lay a matrix out for multiplication; it keeps no reference to the weight that is not its own layout.

        With ``consume`` the weight is given up: where its memory holds the layout, that is built in its place.
        """
        ...

    def linear(self, x_TK: torch.Tensor, matrix: Any) -> torch.Tensor:
        """``x @ weight.T + bias``, ``[T, N]``; rows of x may be strided."""
        ...

    def embed(self, ids_T: torch.Tensor, matrix: Any) -> torch.Tensor:
        """Rows of a packed matrix, ``[T, K]``; ids are int64.

        Raises:
            IndexError: an id is not a row of the matrix.
        """
        ...

    def add_norm(
        self, hidden_TE: torch.Tensor, delta_TE: torch.Tensor | None, weight_E: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """Add delta to hidden, in place, and return its RMSNorm (Zhang and Sennrich 2019), ``[T, E]``.

        The norm is computed in float32 and rounded before the weight.
        """
        ...

    def silu_mul(self, gate_up_TF: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up``, ``[T, F]``, of ``[T, 2F]``: gate in the left half, up in the right."""
        ...

    def rotate(self, heads_THD: torch.Tensor, rotation: "Rotation") -> None:
        """Norm where asked, then turn pair (i, i + D / 2) of every head by its token's angle, in place.

        ``heads_THD`` are the query heads and then the key heads; rows may be strided.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rotation:
    """What ``DenseOps.rotate`` does to a layer's queries and keys (Su et al. 2021, RoFormer)."""

    cos_TR: torch.Tensor  # R = D / 2 pairs, contiguous
    sin_TR: torch.Tensor
    num_heads: int  # that many query heads come first
    q_norm_D: torch.Tensor | None  # weights of RMSNorms over each head, before the turn
    k_norm_D: torch.Tensor | None
    eps: float
