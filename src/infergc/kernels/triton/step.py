"""A planned step on the device: one buffer of integers that all plan data lies in, and memory for partial results.

Shapes: as in ``layout.py``. H query heads, D head dim, R partial results.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from infergc.kernels.api import AttentionNeeds
from infergc.kernels.triton.layout import Work
from infergc.kernels.triton.tiles import Tiles
from infergc.units import ceil_div

_ALIGNED = 4  # every part begins at a multiple of 16 bytes, for all of which kernels are compiled once


@dataclass(frozen=True, slots=True)
class StepSize:
    """How much a step's buffer takes: as much as a step has, or the most of what is to be planned into it.

    Attributes:
        tokens: T.
        pages: page numbers of all rows.
        rows: S.
        tiles: of long rows.
        items: of short rows.
        merges: tokens of short rows.
        partials: partial results of all items.
    """

    tokens: int
    pages: int
    rows: int
    tiles: int
    items: int
    merges: int
    partials: int

    @classmethod
    def of(cls, work: Work) -> "StepSize":
        """Exactly what a step takes."""
        return cls(
            tokens=len(work.slots_T),
            pages=len(work.pages_I),
            rows=len(work.rows_S4),
            tiles=len(work.tiles_L2),
            items=len(work.items_J4),
            merges=len(work.merges_U4),
            partials=work.partials,
        )

    @classmethod
    def of_decode(cls, rows: int, positions: int, needs: AttentionNeeds, sizes: Tiles) -> "StepSize":
        """What at most ``rows`` rows of one token take that hold ``positions`` positions in all.

        Each row may end in a page and in a segment that it has begun only.
        """
        segments = ceil_div(positions, sizes.segment) + rows
        return cls(rows, ceil_div(positions, needs.page_tokens) + rows, rows, 0, segments, rows, segments)

    def lack(self, work: Work) -> str | None:
        """What of a step does not fit; None if all does."""
        wanted = StepSize.of(work)
        over = [f.name for f in fields(self) if getattr(wanted, f.name) > getattr(self, f.name)]
        return ", ".join(f"{getattr(wanted, name)} of {getattr(self, name)} {name}" for name in over) or None


class StepBuffers:
    """Device memory of a step. Addresses stay as long as this lives; ``fill`` puts another step there.

    What a step does not use of its parts says "nothing" (a negative row, slot or token), which kernels skip. So
    the kernels' grids, which follow from ``size``, and all of their arguments are the same for every step that is
    filled in: a CUDA graph of write and attend may be captured once and replayed after each ``fill``.

    Attributes:
        size: what fits.
        slots_T, pages_I, rows_S4, tiles_L2, items_J4, merges_U4: int32, views of the one buffer.
        outs_RHD: float32: outputs of segments, before division by the sum of their weights.
        sums_RH2: float32: greatest score and sum of weights of segments.
    """

    def __init__(self, size: StepSize, needs: AttentionNeeds) -> None:
        self.size = size
        shapes = (
            (size.tokens, 1), (size.pages, 1), (size.rows, 4), (size.tiles, 2), (size.items, 4), (size.merges, 4)
        )  # fmt: skip
        self._starts = np.cumsum([0] + [ceil_div(n * k, _ALIGNED) * _ALIGNED for n, k in shapes]).tolist()
        self._pinned = needs.device == "cuda"
        self._all = torch.empty(self._starts[-1], dtype=torch.int32, device=needs.device)
        parts = [self._all[at : at + n * k] for at, (n, k) in zip(self._starts, shapes, strict=False)]
        self.slots_T, self.pages_I, self.rows_S4, self.tiles_L2, self.items_J4, self.merges_U4 = parts
        heads = size.partials, needs.num_heads
        self.outs_RHD = torch.empty(*heads, needs.head_dim, dtype=torch.float32, device=needs.device)
        self.sums_RH2 = torch.empty(*heads, 2, dtype=torch.float32, device=needs.device)

    def fill(self, work: Work) -> None:
        """Put a step here, by one copy in the current stream's order.

        Raises:
            ValueError: it does not fit.
        """
        if lack := self.size.lack(work):
            raise ValueError(f"the step does not fit the buffers that it is planned into: {lack}")
        # Pinned memory is torch's to give out again, and it waits for the copy: no plan overwrites one under way.
        staged = torch.empty(len(self._all), dtype=torch.int32, pin_memory=self._pinned)
        array = staged.numpy()
        array.fill(-1)
        parts = (work.slots_T, work.pages_I, work.rows_S4, work.tiles_L2, work.items_J4, work.merges_U4)
        for at, part in zip(self._starts, parts, strict=False):
            array[at : at + part.size] = part.ravel()
        self._all.copy_(staged, non_blocking=True)


@dataclass(frozen=True, slots=True)
class TritonStep:
    """A planned step: where it lies, and what the host checks calls by (see ``Work``).

    Attributes:
        buffers: where it lies.
        reach: the widest window that reads no released page.
        last_page: the greatest page number that is read or written.
    """

    buffers: StepBuffers
    reach: int
    last_page: int
