"""What both attention kernels are made of: place queries, fold the keys of a segment, merge segments in order.

The softmax is online (Milakov and Gimelshein 2018; FlashAttention-2, Dao 2023, algorithm 1) to base 2. Both are
written so that their bits depend on values and positions only: where a product and a sum could be fused in one
kernel and not in the other, the fused form is asked for; sums over keys are left to the matrix unit, whose order
over keys is that of the keys; and what a query does not see adds exact zeros, so that it may be skipped.

Shapes: M query vectors of a program, N keys of a tile, C head dim padded to a power of two, L columns
that all hold one sum.
"""

import triton
import triton.language as tl


@triton.jit
def read_row(rows: tl.tensor, row: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """A row's first token, start, tokens, and where its pages begin (see ``Work.rows_S4``)."""
    at = rows + 4 * row
    return tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3)


@triton.jit
def place_queries(
    first: tl.tensor,
    last: tl.tensor,
    start: tl.tensor,
    kv_head: tl.tensor,
    part: tl.tensor,
    GROUP: tl.constexpr,
    SHARED: tl.constexpr,
    DIM: tl.constexpr,
    M: tl.constexpr,
    C: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Which queries first … last of a row, and which of a KV head's query heads, a program's vectors are.

    Returns:
        The query of each vector (counted from the row's first), its position, its head, and whether there is such
        a vector; and where its elements are within a token, and which of those there are. What is not there has a
        position nevertheless: the last query's.
    """
    i_M = tl.arange(0, M)
    c_C = tl.arange(0, C)
    query_M = first + i_M // SHARED
    head_M = kv_head * GROUP + part * SHARED + i_M % SHARED
    inside_M = (query_M <= last) & (head_M < (kv_head + 1) * GROUP)
    inside_MC = inside_M[:, None] & (c_C < DIM)[None, :]
    element_MC = (head_M * DIM)[:, None] + c_C[None, :]
    return query_M, start + tl.minimum(query_M, last), head_M, inside_M, element_MC, inside_MC


@triton.jit
def fold_segment(
    q_MC: tl.tensor,
    position_M: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    pages: tl.tensor,
    first: tl.tensor,
    end: tl.tensor,
    low: tl.tensor,
    factor: tl.tensor,
    window: tl.tensor,
    PAGE_STRIDE: tl.constexpr,
    PAGE: tl.constexpr,
    DIM: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    C: tl.constexpr,
    MASKED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Attend to keys first … end - 1 of a row, of which those below ``low`` are seen by none and not read.

    ``k`` and ``v`` point to the KV head in page 0, ``pages`` to the row's page of position 0, ``first`` is a
    multiple of N. Without MASKED every query sees every key, and ``end`` is a multiple of N too.

    Returns:
        The greatest score of each query (before ``factor``, which is scale · log₂ e), the sum of its weights
        relative to that, and the weighted sum of values.
    """
    n_N = tl.arange(0, N)
    c_C = tl.arange(0, C)
    top_M = tl.full([M], float("-inf"), tl.float32)
    sum_ML = tl.full([M, 16], 0.0, tl.float32)
    out_MC = tl.full([M, C], 0.0, tl.float32)
    ones_NL = tl.full([N, 16], 1.0, q_MC.dtype)
    for at in tl.range(first, end, N):
        key_N = at + n_N
        held_N = (key_N >= low) & (key_N < end)
        page_N = tl.load(pages + key_N // PAGE, mask=held_N, other=0)
        offset_NC = (page_N.to(tl.int64) * PAGE_STRIDE + key_N % PAGE * DIM)[:, None] + c_C[None, :]
        if MASKED or C != DIM:
            inside_NC = held_N[:, None] & (c_C < DIM)[None, :]
            k_NC = tl.load(k + offset_NC, mask=inside_NC, other=0.0)
            v_NC = tl.load(v + offset_NC, mask=inside_NC, other=0.0)
        else:
            k_NC = tl.load(k + offset_NC)
            v_NC = tl.load(v + offset_NC)
        score_MN = tl.dot(q_MC, tl.trans(k_NC), input_precision="ieee")
        if MASKED:
            behind_MN = position_M[:, None] - key_N[None, :]
            score_MN = tl.where((behind_MN >= 0) & (behind_MN < window), score_MN, float("-inf"))
        higher_M = tl.maximum(top_M, tl.max(score_MN, 1))
        base_M = tl.where(higher_M == float("-inf"), 0.0, higher_M)  # nothing seen yet: any finite base will do
        kept_M = tl.exp2((top_M - base_M) * factor)
        weight_MN = tl.exp2(tl.fma(score_MN, factor, -(base_M * factor)[:, None])).to(q_MC.dtype)
        sum_ML = tl.dot(weight_MN, ones_NL, sum_ML * kept_M[:, None], input_precision="ieee")
        out_MC = tl.dot(weight_MN, v_NC, out_MC * kept_M[:, None], input_precision="ieee")
        top_M = higher_M
    return top_M, tl.max(sum_ML, 1), out_MC


@triton.jit
def merge_segment(
    top_M: tl.tensor,
    sum_M: tl.tensor,
    out_MC: tl.tensor,
    next_top_M: tl.tensor,
    next_sum_M: tl.tensor,
    next_out_MC: tl.tensor,
    factor: tl.tensor,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Add the next segment to what those before it gave (Flash-Decoding, Dao et al. 2023), in the same terms.

    Begun with -inf, 0 and 0, the first merge returns the first segment as it is; so does merging one that a query
    does not see.
    """
    higher_M = tl.maximum(top_M, next_top_M)
    base_M = tl.where(higher_M == float("-inf"), 0.0, higher_M)
    kept_M = tl.exp2((top_M - base_M) * factor)
    added_M = tl.exp2((next_top_M - base_M) * factor)
    sum_M = tl.fma(next_sum_M, added_M, sum_M * kept_M)
    out_MC = tl.fma(next_out_MC, added_M[:, None], out_MC * kept_M[:, None])
    return higher_M, sum_M, out_MC
