"""What backends that hand out addresses check of tensors first: an address says nothing about what lies there.

Shapes: T tokens of the step, H query heads, G KV heads, D head dim, N pages, P tokens in a page.
"""

import torch

from infergc.kernels.api import AttentionNeeds

UNBOUNDED = 1 << 30  # the window of what has none: more than any position


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


def check_pages(last_page: int, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor, needs: AttentionNeeds) -> None:
    """Check storage, and that it has the greatest page that a step reads or writes.

    Raises:
        ValueError: it has not, or shape, dtype or strides are not what was asked for.
    """
    if last_page >= page_count(k_NGPD, v_NGPD, needs):
        raise ValueError("the page table names a page that storage does not have")


def check_scale(scale: float) -> None:
    """Check the factor of scores.

    Raises:
        ValueError: it is not positive.
    """
    if scale <= 0:
        raise ValueError(f"the scale of scores is positive, not {scale}: the greatest product has to weigh most")


def check_reach(window: int | None, reach: int) -> int:
    """Check the window of a layer against the widest that reads no released page; return it, UNBOUNDED for none.

    Raises:
        ValueError: it reaches further.
    """
    wanted = UNBOUNDED if window is None else min(window, UNBOUNDED)
    if wanted > reach:
        raise ValueError("a row's window reaches into pages that its table has released")
    return wanted
