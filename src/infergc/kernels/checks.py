"""What backends that hand out addresses check of tensors first: an address says nothing about what lies there.

Shapes: T tokens of the step, H query heads, G KV heads, D head dim, N pages, P tokens in a page.
"""

import torch

from infergc.kernels.api import AttentionNeeds


def token_stride(x_THD: torch.Tensor, tokens: int, heads: int, needs: AttentionNeeds) -> int:
    """Check a tensor of the step; return elements from a token to the next.

    Raises:
        ValueError: shape, dtype or strides are not what was asked for.
    """
    dims = needs.head_dim
    stride, *inner = x_THD.stride()
    if x_THD.shape != (tokens, heads, dims) or x_THD.dtype is not needs.dtype or inner != [dims, 1]:
        raise ValueError(
            f"expected {needs.dtype} [{tokens}, {heads}, {dims}] with heads and dims contiguous, "
            f"not {x_THD.dtype} {list(x_THD.shape)} with strides {list(x_THD.stride())}"
        )
    return stride


def page_count(k_NGPD: torch.Tensor, v_NGPD: torch.Tensor, needs: AttentionNeeds) -> int:
    """Check storage; return its pages.

    Raises:
        ValueError: shape, dtype or strides are not what was asked for.
    """
    shape = (needs.num_kv_heads, needs.page_tokens, needs.head_dim)
    page = needs.page_tokens * needs.head_dim
    for pages in (k_NGPD, v_NGPD):
        if pages.stride() != (needs.num_kv_heads * page, page, needs.head_dim, 1) or pages.dtype is not needs.dtype:
            raise ValueError(f"expected contiguous {needs.dtype} pages {shape}, not {pages.dtype} {list(pages.shape)}")
    return min(len(k_NGPD), len(v_NGPD))
