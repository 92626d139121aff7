"""The FlashInfer backend: steps planned in the library's words, its attention, and Triton's kernel that writes.

Shapes: T tokens of the step, H query heads, G KV heads, D head dim, N pages, P tokens in a page.
"""

from importlib import import_module
from typing import ClassVar

import torch

from infergc.kernels.api import AttentionNeeds, BatchLayout
from infergc.kernels.capabilities import Capabilities
from infergc.kernels.checks import check_pages, check_scale, token_stride
from infergc.kernels.flashinfer import environment
from infergc.kernels.flashinfer.layout import lay_out, window_left
from infergc.kernels.flashinfer.step import FlashInferStep
from infergc.kernels.freight import Direct, Freight
from infergc.kernels.triton.launches import write_pages


class FlashInferAttention:
    """Attention by FlashInfer, for one shape, on a CUDA device.

    It does not keep what ``AttentionBackend.attend`` says of bits: the library chooses kernels, tiles and the split of
    keys by the rows that are computed together, and a token's last bits follow. So ``auto`` never takes it. Nor can a
    step be captured in a CUDA graph: the library plans on the host, and plans are made when layers first need them.

    Head dims are multiples of 64: the library checks nothing here, and its kernels are wrong at others.
    """

    name = "flashinfer"
    capabilities: ClassVar[Capabilities] = Capabilities(
        devices=frozenset({"cuda"}),
        dtypes=frozenset({torch.float16, torch.bfloat16}),
        head_dim_step=64,
        head_dim_max=256,
        page_tokens=frozenset({8, 16, 32, 64}),
        by_name_only=True,
    )

    def __init__(self, needs: AttentionNeeds, threads: object = None) -> None:  # noqa: ARG002 - a GPU has its own
        self._needs = needs
        self._lanes = import_module("infergc.kernels.flashinfer.lanes").Lanes(needs)
        self._write_tokens = import_module("infergc.kernels.triton.kernels").write_tokens

    @staticmethod
    def unavailable() -> str | None:
        """Why this backend cannot run on this machine at all; None when it can."""
        return environment.unavailable()

    def plan(self, layout: BatchLayout, freight: Freight | None = None) -> FlashInferStep:
        """Lay the step out; the library's own plans, and its own small copies for them, are made when layers ask.

        Raises:
            ValueError: a row's table does not hold the positions that the row computes.
        """
        return FlashInferStep(
            lay_out(layout, self._needs.page_tokens), freight or Direct(self._needs.device), self._lanes
        )

    def write(
        self,
        step: FlashInferStep,
        k_TGD: torch.Tensor,
        v_TGD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
    ) -> None:
        """Store the step's K and V in their pages; both may be slices of a fused projection.

        Raises:
            ValueError: a shape, dtype or stride is not what this backend was made for, or storage lacks a page.
        """
        slots_T, last_page = step.slots_T.tensor, step.work.last_page
        write_pages(self._write_tokens, self._needs, slots_T, last_page, (k_TGD, v_TGD), (k_NGPD, v_NGPD))

    def attend(
        self,
        step: FlashInferStep,
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Causal attention over the step's pages, but for the promise about bits; q may be a slice, as in write.

        Raises:
            ValueError: a shape, dtype or stride is not what this backend was made for, the scale is not positive,
                storage lacks a page, or a row's window reaches into released pages.
        """
        token_stride(q_THD, len(step.work.slots_T), self._needs.num_heads, self._needs)
        check_pages(step.work.last_page, k_NGPD, v_NGPD, self._needs)
        left = window_left(window, step.work.reach)
        check_scale(scale)
        order_T = None if step.order_T is None else step.order_T.tensor
        ordered_THD = q_THD if order_T is None else q_THD.index_select(0, order_T)
        result_THD = torch.empty(q_THD.shape, dtype=q_THD.dtype, device=q_THD.device)
        for part, lane in step.planned(scale, left):
            lane.run(ordered_THD[part.tokens], k_NGPD, v_NGPD, result_THD[part.tokens])
        if order_T is None:
            return result_THD
        return torch.empty_like(result_THD).index_copy_(0, order_T, result_THD)
