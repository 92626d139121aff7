"""The kernel seam: plan once per step and layer group, then write and attend once per layer.

Shapes: T tokens of the step, S rows (sequences), H query heads, G KV heads, D head dim, N pages of the
layer group's storage, P tokens in a page, E extents.

KV of a layer is two tensors, K and V apart, each ``[N, G, P, D]``, so that a run of adjacent pages is one
contiguous piece.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from infergc.sched.plan import I32, PageTable


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

    def plan(self, layout: BatchLayout) -> Any:
        """Prepare what all layers of a group share in this step; the result is passed to write and attend."""
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
