"""KV in pages for measuring attention: rows of one length, in extents all over storage.

Shapes: S rows, E extents of a row, N pages, G KV heads, P tokens in a page, D head dim.
"""

import numpy as np
import torch

from infergc.kernels.api import AttentionNeeds, BatchLayout
from infergc.sched.plan import PageTable
from infergc.units import ceil_div

EXTENT = 16  # pages in a run: what a long text's table is mostly made of


class Paged:
    """Storage of random K and V.

    Args:
        needs: of the model.
        tokens: that it holds, of whole extents.

    Attributes:
        k_NGPD, v_NGPD: the pages.
    """

    def __init__(self, needs: AttentionNeeds, tokens: int) -> None:
        self._page = needs.page_tokens
        self._extents = ceil_div(tokens, self._page * EXTENT)
        shape = (self._extents * EXTENT, needs.num_kv_heads, needs.page_tokens, needs.head_dim)
        self.k_NGPD, self.v_NGPD = (torch.randn(shape, dtype=needs.dtype, device=needs.device) for _ in range(2))

    def layout(self, rows: int, context: int, count: int) -> BatchLayout:
        """Rows whose texts have ``context`` tokens, the last ``count`` of which are computed; the same each time."""
        pages = ceil_div(context, self._page)
        extents = ceil_div(pages, EXTENT)
        order = np.random.default_rng(0).permutation(self._extents)[: rows * extents]
        first_SE = (order.reshape(rows, extents) * EXTENT).astype(np.int32)
        pages_SE = np.full((rows, extents), EXTENT, np.int32)
        pages_SE[:, -1] = pages - (extents - 1) * EXTENT
        starts_S, counts_S = np.full(rows, context - count, np.int32), np.full(rows, count, np.int32)
        return BatchLayout(starts_S, counts_S, PageTable(first_SE, pages_SE, np.zeros(rows, np.int32)))

    def first_rows(self, layout: BatchLayout, rows: int, count: int) -> BatchLayout:
        """The first rows of a layout, the last ``count`` tokens of each."""
        ends_S = (layout.starts + layout.counts)[:rows]
        table = layout.table
        part = PageTable(table.first[:rows], table.pages[:rows], table.skipped[:rows])
        return BatchLayout(ends_S - count, np.full(rows, count, np.int32), part)
