"""A step's work, laid out by numpy: who computes what, in arrays that kernels read.

Shapes: T tokens of the step, S rows, E extents of the longest table, I page numbers of all rows, P tokens in a
page. L tiles of long rows, J items of short rows (a tile and a segment each), U tokens of short rows, whose
segments are merged.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infergc.kernels.api import AttentionNeeds, BatchLayout
from infergc.kernels.triton.tiles import SHORT_TOKENS, Tiles, share
from infergc.sched.plan import PageTable

UNBOUNDED = 1 << 30  # the window of what has none: more than any position

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Work:
    """What kernels read of a step, and two facts that the host checks its calls by.

    Attributes:
        slots_T: page number · P + offset of each token, in order.
        pages_I: the page numbers that the rows need, one row after the other.
        rows_S4: first token, start, tokens, and where in ``pages_I`` the page of position 0 is, or would be.
        tiles_L2: row and first query (a token, counted from the row's first), longest work first.
        items_J4: row, first query, segment, and first of the partial results, one for each query of the tile.
        merges_U4: token, position, the partial result of segment 0 or where it would be, and how far it is from
            one segment's to the next's.
        partials: partial results of all items.
        reach: the widest window that reads no released page.
        last_page: the greatest page number of those.
    """

    slots_T: I64
    pages_I: I64
    rows_S4: I64
    tiles_L2: I64
    items_J4: I64
    merges_U4: I64
    partials: int
    reach: int
    last_page: int


def lay_out(layout: BatchLayout, needs: AttentionNeeds, sizes: Tiles) -> Work:
    """Lay a step out for kernels of these sizes.

    Raises:
        ValueError: a row's table does not hold the positions that the row computes.
    """
    starts, counts = layout.starts.astype(np.int64), layout.counts.astype(np.int64)
    skipped = layout.table.skipped.astype(np.int64)
    needed = -(-(starts + counts) // needs.page_tokens) - skipped
    _check(layout, needed, needs.page_tokens)
    pages_I = _spell(layout.table, needed)
    rows_S4 = np.stack([_before(counts), starts, counts, _before(needed) - skipped], axis=1)
    long = counts > SHORT_TOKENS
    group = needs.num_heads // needs.num_kv_heads
    tiles_L2 = _tile(rows_S4, np.flatnonzero(long), share(group, sizes.long_queries).positions)
    positions, held_from = share(group, sizes.short_queries).positions, skipped * needs.page_tokens
    items_J4, merges_U4, partials = _split(rows_S4, np.flatnonzero(~long), held_from, positions, sizes.segment)
    released = skipped > 0
    return Work(
        _slots(rows_S4, pages_I, needs.page_tokens),
        pages_I,
        rows_S4,
        tiles_L2,
        items_J4,
        merges_U4,
        partials,
        int((starts - held_from + 1)[released].min(initial=UNBOUNDED)),
        int(pages_I.max(initial=-1)),
    )


def _check(layout: BatchLayout, needed: I64, size: int) -> None:
    starts, counts, skipped = layout.starts, layout.counts, layout.table.skipped
    held = layout.table.pages.sum(1, dtype=np.int64)
    bad = np.flatnonzero((held < needed) | (starts < skipped.astype(np.int64) * size))
    if len(bad):
        row = bad[0]
        raise ValueError(
            f"row {row} computes positions {starts[row]} … {starts[row] + counts[row] - 1}, but its table skips "
            f"{skipped[row]} pages and holds {held[row]}"
        )


def _spell(table: PageTable, needed: I64) -> I64:
    """The numbers of the pages that each row needs, one row after the other; what it holds ahead is left out."""
    first, pages = table.first.astype(np.int64), table.pages.astype(np.int64)
    left = needed[:, None] - (np.cumsum(pages, axis=1) - pages)
    taken = np.clip(left, 0, pages).ravel()
    return _ramp(taken) + np.repeat(first.ravel(), taken)


def _slots(rows_S4: I64, pages_I: I64, size: int) -> I64:
    _, starts, counts, bases = rows_S4.T
    position_T = _ramp(counts) + np.repeat(starts, counts)
    page_T = pages_I[np.repeat(bases, counts) + position_T // size]
    slots_T: I64 = page_T * size + position_T % size
    return slots_T


def _tile(rows_S4: I64, long: I64, positions: int) -> I64:
    """Cut long rows into tiles; those at the greatest positions, which read most, come first."""
    cuts = -(-rows_S4[long, 2] // positions)
    row_L, query_L = np.repeat(long, cuts), _ramp(cuts) * positions
    order = np.argsort(-(rows_S4[row_L, 1] + query_L), kind="stable")
    return np.stack([row_L[order], query_L[order]], axis=1)


def _split(rows_S4: I64, short: I64, held_from_S: I64, positions: int, segment: int) -> tuple[I64, I64, int]:
    """Cut short rows into tiles, and those into segments: items, merges, and the number of partial results."""
    firsts, starts, counts, _ = rows_S4[short].T
    cuts = -(-counts // positions)  # tiles of each short row; K tiles of all
    row_K, query_K = np.repeat(short, cuts), _ramp(cuts) * positions
    queries_K = np.minimum(positions, np.repeat(counts, cuts) - query_K)
    low_K = held_from_S[row_K] // segment
    segments_K = (np.repeat(starts, cuts) + query_K + queries_K - 1) // segment + 1 - low_K
    partial_K = _before(segments_K * queries_K)

    along_J = _ramp(segments_K)
    tile_J = np.repeat(np.arange(len(row_K)), segments_K)
    items = [row_K[tile_J], query_K[tile_J], low_K[tile_J] + along_J, partial_K[tile_J] + along_J * queries_K[tile_J]]

    local_U = _ramp(counts)
    tile_U = np.repeat(_before(cuts), counts) + local_U // positions
    origin_U = partial_K[tile_U] - low_K[tile_U] * queries_K[tile_U] + local_U % positions
    merges = [np.repeat(firsts, counts) + local_U, np.repeat(starts, counts) + local_U, origin_U, queries_K[tile_U]]
    return np.stack(items, axis=1), np.stack(merges, axis=1), int((segments_K * queries_K).sum())


def _before(lengths: I64) -> I64:
    """The sum of the lengths before each."""
    ends: I64 = np.cumsum(lengths)
    return ends - lengths


def _ramp(lengths: I64) -> I64:
    """0, 1, … length - 1 for each length, one after the other."""
    return np.arange(lengths.sum()) - np.repeat(_before(lengths), lengths)
