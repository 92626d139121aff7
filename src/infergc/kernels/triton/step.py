"""A planned step on the device: one buffer of integers that all plan data lies in, and memory for partial results.

Shapes: as in ``layout.py``. H query heads, D head dim, R partial results.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.kernels.api import AttentionNeeds
from infergc.kernels.freight import Freight
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


class Partials:
    """Memory for what segments give, until it is merged.

    Attributes:
        outs_RHD: float32: outputs of segments, before division by the sum of their weights.
        sums_RH2: float32: greatest score and sum of weights of segments.
    """

    def __init__(self, most: int, needs: AttentionNeeds) -> None:
        heads = most, needs.num_heads
        self.outs_RHD = torch.empty(*heads, needs.head_dim, dtype=torch.float32, device=needs.device)
        self.sums_RH2 = torch.empty(*heads, 2, dtype=torch.float32, device=needs.device)


class StepBuffers:
    """Device memory of a step.

    What a step does not use of its parts says "nothing" (a negative row, slot or token), which kernels skip. So
    the kernels' grids, which follow from ``size``, and all of their arguments are the same for every step that is
    filled in: a CUDA graph of write and attend may be captured once and replayed after each ``fill``.

    Attributes:
        size: what fits.
        slots_T, pages_I, rows_S4, tiles_L2, items_J4, merges_U4: int32, views of the one buffer.
        outs_RHD, sums_RH2: see ``Partials``.

    Args:
        size: what is to fit.
        needs: gives heads and device.
        ints: the one buffer, as long as what ``pack`` makes for this size; None: another is made.
        partials: memory for at least as many partial results, which nobody needs who is given it by turns; None: its
            own.
    """

    def __init__(
        self,
        size: StepSize,
        needs: AttentionNeeds,
        ints: torch.Tensor | None = None,
        partials: "Partials | None" = None,
    ) -> None:
        self.size = size
        starts = _starts(size)
        self._all = torch.empty(starts[-1], dtype=torch.int32, device=needs.device) if ints is None else ints
        parts = [self._all[at : at + n * k] for at, (n, k) in zip(starts, _shapes(size), strict=False)]
        self.slots_T, self.pages_I, self.rows_S4, self.tiles_L2, self.items_J4, self.merges_U4 = parts
        partials = partials or Partials(size.partials, needs)
        self.outs_RHD = partials.outs_RHD[: size.partials]
        self.sums_RH2 = partials.sums_RH2[: size.partials]

    def fill(self, ints: torch.Tensor) -> None:
        """Put a step here that was packed for this size. Addresses stay as they are."""
        self._all.copy_(ints)


def pack(work: Work, size: StepSize) -> NDArray[np.int32]:
    """All of a step's integers in one array, as ``StepBuffers`` of this size has them.

    Raises:
        ValueError: it does not fit.
    """
    if lack := size.lack(work):
        raise ValueError(f"the step does not fit the buffers that it is planned into: {lack}")
    starts = _starts(size)
    packed = np.full(starts[-1], -1, np.int32)
    parts = (work.slots_T, work.pages_I, work.rows_S4, work.tiles_L2, work.items_J4, work.merges_U4)
    for at, part in zip(starts, parts, strict=False):
        packed[at : at + part.size] = part.ravel()
    return packed


def _shapes(size: StepSize) -> tuple[tuple[int, int], ...]:
    return (
        (size.tokens, 1), (size.pages, 1), (size.rows, 4), (size.tiles, 2), (size.items, 4), (size.merges, 4)
    )  # fmt: skip


def _starts(size: StepSize) -> list[int]:
    """Where each part begins, and the end of all."""
    ends = np.cumsum([0] + [ceil_div(n * k, _ALIGNED) * _ALIGNED for n, k in _shapes(size)])
    starts: list[int] = ends.tolist()
    return starts


class TritonStep:
    """A planned step: where it lies, and what the host checks calls by (see ``Work``).

    Attributes:
        size: at which kernels are launched.
        reach: the widest window that reads no released page.
        last_page: the greatest page number that is read or written.

    Args:
        work: the step.
        needs: of the backend.
        freight: takes its integers to the device.
        into: buffers where they are to lie; None: where they arrive.
    """

    def __init__(self, work: Work, needs: AttentionNeeds, freight: Freight, into: StepBuffers | None) -> None:
        self.size = StepSize.of(work) if into is None else into.size
        self.reach = work.reach
        self.last_page = work.last_page
        self._needs = needs
        self._parcel = freight.add(pack(work, self.size))
        self._into = into
        self._buffers: StepBuffers | None = None

    def arrive(self) -> StepBuffers:
        """Where the step lies, once the freight has left: the first call puts it there."""
        if self._buffers is None:
            ints = self._parcel.tensor
            if self._into is None:
                self._buffers = StepBuffers(self.size, self._needs, ints)
            else:
                self._into.fill(ints)
                self._buffers = self._into
        return self._buffers
