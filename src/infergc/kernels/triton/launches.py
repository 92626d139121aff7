"""The launch of Triton's kernel that writes: for every backend that leaves writing to it. Imports no Triton.

Shapes: T tokens of the step, G KV heads, D head dim, N pages, P tokens in a page.
"""

from typing import Any

import torch

from infergc.kernels.api import AttentionNeeds
from infergc.kernels.checks import check_pages, token_stride
from infergc.kernels.triton.tiles import power_of_two


def write_pages(
    kernel: Any,
    needs: AttentionNeeds,
    slots_T: torch.Tensor,
    last_page: int,
    kv_TGD: tuple[torch.Tensor, torch.Tensor],
    kv_NGPD: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Store the step's K and V in their pages; both may be slices of a fused projection.

    Args:
        kernel: ``write_tokens`` of ``writing.py``.
        needs: what the backend was made for.
        slots_T: where each token goes, page · P + offset; below 0 it goes nowhere.
        last_page: the last page that is written.
        kv_TGD: K and V of the step.
        kv_NGPD: the pages.

    Raises:
        ValueError: a shape, dtype or stride is not what ``needs`` says, or storage lacks a page.
    """
    k_stride, v_stride = (token_stride(x_TGD, len(slots_T), needs.num_kv_heads, needs) for x_TGD in kv_TGD)
    check_pages(last_page, *kv_NGPD, needs)
    if len(slots_T):
        kernel[(len(slots_T),)](
            *kv_TGD, *kv_NGPD, slots_T, k_stride, v_stride,
            KV_HEADS=needs.num_kv_heads, DIM=needs.head_dim, PAGE=needs.page_tokens,
            G=power_of_two(needs.num_kv_heads), C=power_of_two(needs.head_dim), num_warps=4,
        )  # fmt: skip
