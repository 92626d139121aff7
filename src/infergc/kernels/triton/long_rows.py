"""Attention of rows with many tokens: a program folds and merges all segments that its queries see.

Shapes: M query vectors of a program, C head dim padded to a power of two. The rest as in ``layout.py``.
"""

import triton
import triton.language as tl

from infergc.kernels.triton.segments import fold_segment, merge_segment


@triton.jit
def attend_long_rows(
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    out: tl.tensor,
    pages: tl.tensor,
    rows: tl.tensor,
    tiles: tl.tensor,
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
    """One program for each of ``tiles`` and each part of a KV head's query heads; heads change fastest.

    Tiles come longest first, so that the last programs to run are short ones; programs that run at one time
    read neighbouring heads of the same pages.
    """
    tile = tl.program_id(0) // (KV_HEADS * PARTS)
    part = tl.program_id(0) % (KV_HEADS * PARTS)
    row = tl.load(tiles + 2 * tile)
    if row < 0:
        return
    first_query = tl.load(tiles + 2 * tile + 1)
    token = tl.load(rows + 4 * row)
    start = tl.load(rows + 4 * row + 1)
    last_query = tl.minimum(first_query + POSITIONS, tl.load(rows + 4 * row + 2)) - 1
    table = pages + tl.load(rows + 4 * row + 3)
    kv_head = part // PARTS
    head = kv_head * (HEADS // KV_HEADS) + part % PARTS * SHARED

    query_M = first_query + tl.arange(0, M) // SHARED
    head_M = head + tl.arange(0, M) % SHARED
    inside_M = (query_M <= last_query) & (head_M < (kv_head + 1) * (HEADS // KV_HEADS))
    position_M = start + tl.minimum(query_M, last_query)
    inside_MC = inside_M[:, None] & (tl.arange(0, C) < DIM)[None, :]
    inner_MC = (head_M * DIM)[:, None] + tl.arange(0, C)[None, :]
    token_M = (token + query_M).to(tl.int64)
    q_MC = tl.load(q + (token_M * q_stride)[:, None] + inner_MC, mask=inside_MC, other=0.0)

    earliest = start + first_query
    latest = start + last_query
    low = tl.maximum(earliest - window + 1, 0)
    k += kv_head * PAGE * DIM
    v += kv_head * PAGE * DIM
    top_M = tl.full([M], float("-inf"), tl.float32)
    sum_M = tl.full([M], 0.0, tl.float32)
    out_MC = tl.full([M, C], 0.0, tl.float32)
    for begin in tl.range(low // SEGMENT * SEGMENT, latest + 1, SEGMENT):
        first = tl.maximum(begin, low // N * N)
        end = tl.minimum(begin + SEGMENT, latest + 1)
        if (begin + SEGMENT <= earliest + 1) & (first > latest - window):
            top, total, part_MC = fold_segment(
                q_MC,
                position_M,
                k,
                v,
                table,
                first,
                begin + SEGMENT,
                low,
                factor,
                window,
                KV_HEADS * PAGE * DIM,
                PAGE,
                DIM,
                M,
                N,
                C,
                False,
            )
        else:
            top, total, part_MC = fold_segment(
                q_MC,
                position_M,
                k,
                v,
                table,
                first,
                end,
                low,
                factor,
                window,
                KV_HEADS * PAGE * DIM,
                PAGE,
                DIM,
                M,
                N,
                C,
                True,
            )
        top_M, sum_M, out_MC = merge_segment(top_M, sum_M, out_MC, top, total, part_MC, factor)
    out_MC = (out_MC / sum_M[:, None]).to(out.dtype.element_ty)
    tl.store(out + (token_M * (HEADS * DIM))[:, None] + inner_MC, out_MC, mask=inside_MC)
