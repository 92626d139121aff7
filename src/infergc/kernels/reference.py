"""The oracle: paged attention in plain torch, for any device and dtype. Slow, and meant to be read.

Shapes: T tokens of the step, S rows, H query heads, G KV heads, R = H / G query heads of a KV head, D head
dim, N pages, P tokens in a page, K key positions of a row.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from infergc.kernels.api import AttentionNeeds, BatchLayout
from infergc.kernels.capabilities import Capabilities
from infergc.kernels.freight import Direct, Freight, Parcel
from infergc.sched.plan import PageTable
from infergc.units import ceil_div


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """One sequence of a step: tokens first … first + count - 1 of the batch, positions start onwards."""

    first: int
    start: int
    count: int
    held_from: int  # first position whose page the table still holds
    pages: Parcel  # [pages] page numbers from there to the last position


class ReferenceAttention:
    """Attention with float32 softmax, one query after another.

    Taking each query alone over exactly the keys it sees is what keeps its result the same in every batch and
    for every cut of the prompt: the shapes of its matrix products depend on its position only.
    """

    name = "reference"
    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(self, needs: AttentionNeeds, threads: object = None) -> None:  # noqa: ARG002 - torch has its own
        self._needs = needs

    @staticmethod
    def unavailable() -> str | None:
        """Return None: it runs everywhere."""
        return None

    def plan(self, layout: BatchLayout, freight: Freight | None = None) -> list[ReferenceRow]:
        """Spell the extents out as page numbers.

        Raises:
            ValueError: a row's table does not hold the positions that the row computes.
        """
        freight = freight or Direct(self._needs.device)
        rows = []
        first = 0
        spans = zip(layout.starts.tolist(), layout.counts.tolist(), strict=True)
        for index, (start, count) in enumerate(spans):
            rows.append(self._row(layout.table, index, first, start, count, freight))
            first += count
        return rows

    def write(
        self,
        step: list[ReferenceRow],
        k_TGD: torch.Tensor,
        v_TGD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
    ) -> None:
        """Store the step's K and V in their pages."""
        for row in step:
            pages = row.pages.tensor
            position = torch.arange(row.start, row.start + row.count, device=k_NGPD.device)
            page = pages[(position - row.held_from) // self._needs.page_tokens]
            offset = position % self._needs.page_tokens
            tokens = slice(row.first, row.first + row.count)
            k_NGPD[page, :, offset] = k_TGD[tokens]
            v_NGPD[page, :, offset] = v_TGD[tokens]

    def attend(
        self,
        step: list[ReferenceRow],
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Causal attention over the step's pages, as the protocol says.

        Raises:
            ValueError: a row's window reaches into released pages.
        """
        out_THD = torch.empty_like(q_THD, memory_format=torch.contiguous_format)
        for row in step:
            k_GKD, v_GKD = _gather(row, k_NGPD), _gather(row, v_NGPD)
            for i in range(row.count):
                low, high = _visible(row, row.start + i, window)
                token = row.first + i
                out_THD[token] = _attend_one(q_THD[token], k_GKD[:, low:high], v_GKD[:, low:high], scale)
        return out_THD

    def _row(self, table: PageTable, index: int, first: int, start: int, count: int, freight: Freight) -> ReferenceRow:
        extents = zip(table.first[index].tolist(), table.pages[index].tolist(), strict=True)
        spelled = [np.arange(page, page + pages) for page, pages in extents]
        pages = np.concatenate(spelled) if spelled else np.empty(0, np.int64)
        skipped, size = int(table.skipped[index]), self._needs.page_tokens
        needed = ceil_div(start + count, size) - skipped
        if len(pages) < needed or start < skipped * size:
            raise ValueError(
                f"row {index} computes positions {start} … {start + count - 1}, but its table skips "
                f"{skipped} pages and holds {len(pages)}"
            )
        return ReferenceRow(first, start, count, skipped * size, freight.add(pages[:needed]))


def _gather(row: ReferenceRow, x_NGPD: torch.Tensor) -> torch.Tensor:
    """Bring a row's keys or values into position order, in float32: x_GKD."""
    return x_NGPD[row.pages.tensor].transpose(0, 1).flatten(1, 2).float()


def _visible(row: ReferenceRow, position: int, window: int | None) -> tuple[int, int]:
    """Half-open range of the gathered keys that a position sees."""
    low = 0 if window is None else max(0, position - window + 1)
    if low < row.held_from:
        raise ValueError(f"position {position} sees {low}, but the row's table begins at {row.held_from}")
    return low - row.held_from, position + 1 - row.held_from


def _attend_one(q_HD: torch.Tensor, k_GKD: torch.Tensor, v_GKD: torch.Tensor, scale: float) -> torch.Tensor:
    """softmax(scale · q Kᵀ) V of one query (Vaswani et al. 2017, eq. 1), each KV head serving H / G heads."""
    groups, _, dims = k_GKD.shape
    q_GRD = q_HD.float().view(groups, -1, dims)
    weights_GRK = torch.softmax(scale * (q_GRD @ k_GKD.transpose(1, 2)), dim=-1)
    return (weights_GRK @ v_GKD).view(-1, dims).to(q_HD.dtype)
