"""Storing the step's new K and V in their pages.

Shapes: G KV heads, padded to a power of two, C head dim, likewise. The rest as in ``layout.py``.
"""

import triton
import triton.language as tl


@triton.jit
def write_tokens(
    k: tl.tensor,
    v: tl.tensor,
    k_pages: tl.tensor,
    v_pages: tl.tensor,
    slots: tl.tensor,
    k_stride: tl.tensor,
    v_stride: tl.tensor,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    PAGE: tl.constexpr,
    G: tl.constexpr,
    C: tl.constexpr,
) -> None:
    """One program a token: all its heads, to the token's slot and nowhere else; a slot below 0 is none."""
    token = tl.program_id(0)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    g_G = tl.arange(0, G)
    c_C = tl.arange(0, C)
    inside_GC = (g_G < KV_HEADS)[:, None] & (c_C < DIM)[None, :]
    from_GC = (g_G * DIM)[:, None] + c_C[None, :]
    row = (slot // PAGE).to(tl.int64) * (KV_HEADS * PAGE) + slot % PAGE
    to_GC = row * DIM + (g_G * (PAGE * DIM))[:, None] + c_C[None, :]
    k_GC = tl.load(k + token.to(tl.int64) * k_stride + from_GC, mask=inside_GC)
    v_GC = tl.load(v + token.to(tl.int64) * v_stride + from_GC, mask=inside_GC)
    tl.store(k_pages + to_GC, k_GC, mask=inside_GC)
    tl.store(v_pages + to_GC, v_GC, mask=inside_GC)
