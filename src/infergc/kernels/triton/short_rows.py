"""Attention of rows with few tokens, split over segments (Flash-Decoding), and the merge of what the splits gave.

Shapes: M query vectors of a program, C head dim padded to a power of two, B heads of a merging program. The rest
as in ``layout.py``.
"""

import triton
import triton.language as tl

from infergc.kernels.triton.segments import fold_segment, merge_segment, place_queries, read_row


@triton.jit(do_not_specialize=["window"])
def attend_short_rows(
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    outs: tl.tensor,
    sums: tl.tensor,
    pages: tl.tensor,
    rows: tl.tensor,
    items: tl.tensor,
    q_stride: tl.tensor,
    factor: tl.tensor,
    window: tl.tensor,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    PAGE: tl.constexpr,
    SHARED: tl.constexpr,
    PARTS: tl.constexpr,
    POSITIONS: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    C: tl.constexpr,
    SEGMENT: tl.constexpr,
) -> None:
    """One program for each of ``items`` and each part of a KV head's query heads: one segment of one tile.

    ``outs`` is ``[partials, H, D]`` and ``sums`` ``[partials, H, 2]`` with greatest score and sum of weights. A
    segment out of the window's reach writes nothing, and ``merge_short_rows`` does not read it.
    """
    item = tl.program_id(0) // (KV_HEADS * PARTS)
    part = tl.program_id(0) % (KV_HEADS * PARTS)
    row = tl.load(items + 4 * item)
    if row < 0:
        return
    first_query = tl.load(items + 4 * item + 1)
    begin = tl.load(items + 4 * item + 2) * SEGMENT
    partial = tl.load(items + 4 * item + 3)
    token, start, count, first_page = read_row(rows, row)
    last_query = tl.minimum(first_query + POSITIONS, count) - 1
    low = tl.maximum(start + first_query - window + 1, 0)
    if begin + SEGMENT <= low:
        return

    query_M, position_M, head_M, inside_M, element_MC, inside_MC = place_queries(
        first_query, last_query, start, part // PARTS, part % PARTS, HEADS // KV_HEADS, SHARED, DIM, M, C
    )
    token_M = (token + query_M).to(tl.int64)
    q_MC = tl.load(q + (token_M * q_stride)[:, None] + element_MC, mask=inside_MC, other=0.0)
    first = tl.maximum(begin, low // N * N)
    end = tl.minimum(begin + SEGMENT, start + last_query + 1)
    k += part // PARTS * (PAGE * DIM)
    v += part // PARTS * (PAGE * DIM)
    top_M, sum_M, out_MC = fold_segment(
        q_MC, position_M, k, v, pages + first_page, first, end, low, factor, window,
        KV_HEADS * PAGE * DIM, PAGE, DIM, M, N, C, True,
    )  # fmt: skip
    partial_M = (partial + query_M - first_query).to(tl.int64)
    tl.store(outs + (partial_M * (HEADS * DIM))[:, None] + element_MC, out_MC, mask=inside_MC)
    tl.store(sums + (partial_M * HEADS + head_M) * 2, top_M, mask=inside_M)
    tl.store(sums + (partial_M * HEADS + head_M) * 2 + 1, sum_M, mask=inside_M)


@triton.jit(do_not_specialize=["window"])
def merge_short_rows(
    outs: tl.tensor,
    sums: tl.tensor,
    out: tl.tensor,
    merges: tl.tensor,
    factor: tl.tensor,
    window: tl.tensor,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    B: tl.constexpr,
    C: tl.constexpr,
    SEGMENT: tl.constexpr,
) -> None:
    """One program for each of ``merges`` (a token) and each B heads: merge its segments in order."""
    BLOCKS: tl.constexpr = (HEADS + B - 1) // B
    merge = tl.program_id(0) // BLOCKS
    token = tl.load(merges + 4 * merge)
    if token < 0:
        return
    position = tl.load(merges + 4 * merge + 1)
    partial = tl.load(merges + 4 * merge + 2)  # where segment 0 is, or would be
    stride = tl.load(merges + 4 * merge + 3)
    head_B = tl.program_id(0) % BLOCKS * B + tl.arange(0, B)
    inside_B = head_B < HEADS
    inside_BC = inside_B[:, None] & (tl.arange(0, C) < DIM)[None, :]
    inner_BC = (head_B * DIM)[:, None] + tl.arange(0, C)[None, :]
    top_B = tl.full([B], float("-inf"), tl.float32)
    sum_B = tl.full([B], 0.0, tl.float32)
    out_BC = tl.full([B, C], 0.0, tl.float32)
    for segment in tl.range(tl.maximum(position - window + 1, 0) // SEGMENT, position // SEGMENT + 1):
        at = (partial + segment * stride).to(tl.int64) * HEADS
        next_top_B = tl.load(sums + (at + head_B) * 2, mask=inside_B, other=0.0)
        next_sum_B = tl.load(sums + (at + head_B) * 2 + 1, mask=inside_B, other=1.0)
        next_out_BC = tl.load(outs + at * DIM + inner_BC, mask=inside_BC, other=0.0)
        top_B, sum_B, out_BC = merge_segment(top_B, sum_B, out_BC, next_top_B, next_sum_B, next_out_BC, factor)
    out_BC = (out_BC / sum_B[:, None]).to(out.dtype.element_ty)
    tl.store(out + token.to(tl.int64) * (HEADS * DIM) + inner_BC, out_BC, mask=inside_BC)
