"""Attention of rows with many tokens: a program folds and merges all segments that its queries see.

Shapes: M query vectors of a program, C head dim padded to a power of two. The rest as in ``layout.py``.
"""

import triton
import triton.language as tl

from infergc.kernels.triton.segments import fold_segment, merge_segment, place_queries, read_row


@triton.jit(do_not_specialize=["window"])
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
    token, start, count, first_page = read_row(rows, row)
    last_query = tl.minimum(first_query + POSITIONS, count) - 1

    query_M, position_M, _, _, element_MC, inside_MC = place_queries(
        first_query, last_query, start, part // PARTS, part % PARTS, HEADS // KV_HEADS, SHARED, DIM, M, C
    )
    token_M = (token + query_M).to(tl.int64)
    q_MC = tl.load(q + (token_M * q_stride)[:, None] + element_MC, mask=inside_MC, other=0.0)

    earliest, latest = start + first_query, start + last_query
    low = tl.maximum(earliest - window + 1, 0)
    k += part // PARTS * (PAGE * DIM)
    v += part // PARTS * (PAGE * DIM)
    top_M = tl.full([M], float("-inf"), tl.float32)
    sum_M = tl.full([M], 0.0, tl.float32)
    out_MC = tl.full([M, C], 0.0, tl.float32)
    for begin in tl.range(low // SEGMENT * SEGMENT, latest + 1, SEGMENT):
        first = tl.maximum(begin, low // N * N)
        end = tl.minimum(begin + SEGMENT, latest + 1)
        if (begin + SEGMENT <= earliest + 1) & (first > latest - window):
            top, total, part_MC = fold_segment(
                q_MC, position_M, k, v, pages + first_page, first, end, low, factor, window,
                KV_HEADS * PAGE * DIM, PAGE, DIM, M, N, C, False,
            )  # fmt: skip
        else:
            top, total, part_MC = fold_segment(
                q_MC, position_M, k, v, pages + first_page, first, end, low, factor, window,
                KV_HEADS * PAGE * DIM, PAGE, DIM, M, N, C, True,
            )  # fmt: skip
        top_M, sum_M, out_MC = merge_segment(top_M, sum_M, out_MC, top, total, part_MC, factor)
    out_MC = (out_MC / sum_M[:, None]).to(out.dtype.element_ty)
    tl.store(out + (token_M * (HEADS * DIM))[:, None] + element_MC, out_MC, mask=inside_MC)
