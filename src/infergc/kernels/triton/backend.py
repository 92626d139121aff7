"""The Triton backend: steps planned into one buffer, and the launches of write and attend.

Shapes: T tokens of the step, H query heads, G KV heads, D head dim, N pages, P tokens in a page.
"""

from importlib import import_module
from math import e, log2
from typing import ClassVar

import torch

from infergc.kernels.api import AttentionNeeds, BatchLayout
from infergc.kernels.capabilities import Capabilities
from infergc.kernels.checks import check_pages, check_reach, check_scale, token_stride
from infergc.kernels.freight import Direct, Freight
from infergc.kernels.triton import environment
from infergc.kernels.triton.launches import write_pages
from infergc.kernels.triton.layout import lay_out
from infergc.kernels.triton.step import Partials, StepBuffers, StepSize, TritonStep
from infergc.kernels.triton.tiles import Tiles, power_of_two, share, tiles
from infergc.units import ceil_div


class TritonAttention:
    """Attention in Triton, for one shape: on a CUDA device, or anywhere under TRITON_INTERPRET=1.

    The interpreter is for tests: ``auto`` does not choose it, and it is not asked for bfloat16, whose products
    it was seen to get wrong.

    Attributes:
        sizes: of tiles and segments: those of ``tiles.py``, unless others are given to be tried. Other sizes may
            give other bits.
    """

    name = "triton"
    capabilities: ClassVar[Capabilities] = Capabilities(
        devices=frozenset({"cuda", "cpu"} if environment.INTERPRETED else {"cuda"}),
        dtypes=frozenset({torch.float32, torch.float16} | (set() if environment.INTERPRETED else {torch.bfloat16})),
        head_dim_step=16,
        head_dim_max=256,
        page_tokens=frozenset({8, 16, 32, 64}),
        by_name_only=environment.INTERPRETED,
    )

    def __init__(
        self,
        needs: AttentionNeeds,
        threads: object = None,  # noqa: ARG002 - a GPU has its own
        sizes: Tiles | None = None,
    ) -> None:
        self._needs = needs
        self._kernels = import_module("infergc.kernels.triton.kernels")
        self.sizes = sizes or tiles(needs)
        self._group = needs.num_heads // needs.num_kv_heads
        self._padded_dim = power_of_two(needs.head_dim)

    @staticmethod
    def unavailable() -> str | None:
        """Why this backend cannot run on this machine at all; None when it can."""
        return environment.unavailable()

    def plan(self, layout: BatchLayout, freight: Freight | None = None, into: StepBuffers | None = None) -> TritonStep:
        """Lay the step's work out for the device.

        Args:
            layout: the step.
            freight: takes it there; None: it goes at once.
            into: buffers that stay where they are, from ``reserve``: what was planned into them before is
                overwritten, in the current stream's order, when the step arrives. For CUDA graphs: capture write and
                attend once over such buffers, with inputs of ``size.tokens`` tokens that stay where they are too;
                then, for each step that fits, plan into them, let the step arrive, and replay. Rows of inputs that
                the step has no token for are not read, and those of the output are left as they are. What write and
                attend refuse, a replay does not: see ``check``.

        Raises:
            ValueError: a row's table does not hold the positions that the row computes, or the step does not fit.
        """
        work = lay_out(layout, self._needs, self.sizes)
        return TritonStep(work, self._needs, freight or Direct(self._needs.device), into)

    def reserve(self, size: StepSize, partials: Partials | None = None) -> StepBuffers:
        """Memory for steps up to a size. They are launched at that size, whatever is in them.

        Args:
            size: the most that is to fit.
            partials: memory for partial results to share with buffers that are used before or after; None: its own.
        """
        return StepBuffers(size, self._needs, partials=partials)

    def decode_size(self, rows: int, positions: int) -> StepSize:
        """What at most ``rows`` rows of one token take that hold ``positions`` positions in all."""
        return StepSize.of_decode(rows, positions, self._needs, self.sizes)

    def partials(self, most: int) -> Partials:
        """Memory for so many partial results."""
        return Partials(most, self._needs)

    def write(
        self, step: TritonStep, k_TGD: torch.Tensor, v_TGD: torch.Tensor, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor
    ) -> None:
        """Store the step's K and V in their pages; both may be slices of a fused projection.

        Raises:
            ValueError: a shape, dtype or stride is not what this backend was made for, or storage lacks a page.
        """
        slots_T = step.arrive().slots_T
        write_pages(self._kernels.write_tokens, self._needs, slots_T, step.last_page, (k_TGD, v_TGD), (k_NGPD, v_NGPD))

    def attend(
        self,
        step: TritonStep,
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Causal attention over the step's pages, as the protocol says; q may be a slice, as in write.

        Raises:
            ValueError: a shape, dtype or stride is not what this backend was made for, the scale is not positive,
                storage lacks a page, or a row's window reaches into released pages.
        """
        stride = token_stride(q_THD, step.size.tokens, self._needs.num_heads, self._needs)
        check_pages(step.last_page, k_NGPD, v_NGPD, self._needs)
        reach = check_reach(window, step.reach)
        check_scale(scale)
        buffers, out_THD = step.arrive(), torch.empty(q_THD.shape, dtype=q_THD.dtype, device=q_THD.device)
        factor = scale * log2(e)
        if step.size.tiles:
            self._attend_long(buffers, q_THD, k_NGPD, v_NGPD, out_THD, stride, factor, reach)
        if step.size.items:
            self._attend_short(buffers, q_THD, k_NGPD, v_NGPD, out_THD, stride, factor, reach)
        return out_THD

    def check(self, step: TritonStep, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor, window: int | None) -> None:
        """Look whether a step may attend over this storage; a replay of its launches would not.

        Raises:
            ValueError: storage lacks a page, or a row's window reaches into released pages.
        """
        check_pages(step.last_page, k_NGPD, v_NGPD, self._needs)
        check_reach(window, step.reach)

    def _attend_long(
        self,
        buffers: StepBuffers,
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        out_THD: torch.Tensor,
        stride: int,
        factor: float,
        window: int,
    ) -> None:
        sizes = self.sizes
        constants, programs = self._constants(sizes.long_queries)
        self._kernels.attend_long_rows[(buffers.size.tiles * programs,)](
            q_THD, k_NGPD, v_NGPD, out_THD, buffers.pages_I, buffers.rows_S4, buffers.tiles_L2, stride, factor, window,
            **constants, num_warps=sizes.long_warps, num_stages=sizes.long_stages,
        )  # fmt: skip

    def _attend_short(
        self,
        buffers: StepBuffers,
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        out_THD: torch.Tensor,
        stride: int,
        factor: float,
        window: int,
    ) -> None:
        sizes, size, heads = self.sizes, buffers.size, self._needs.num_heads
        constants, programs = self._constants(sizes.short_queries)
        self._kernels.attend_short_rows[(size.items * programs,)](
            q_THD, k_NGPD, v_NGPD, buffers.outs_RHD, buffers.sums_RH2, buffers.pages_I, buffers.rows_S4,
            buffers.items_J4, stride, factor, window,
            **constants, num_warps=sizes.short_warps, num_stages=sizes.short_stages,
        )  # fmt: skip
        self._kernels.merge_short_rows[(size.merges * ceil_div(heads, _MERGED_HEADS),)](
            buffers.outs_RHD, buffers.sums_RH2, out_THD, buffers.merges_U4, factor, window,
            HEADS=heads, DIM=self._needs.head_dim, B=_MERGED_HEADS, C=self._padded_dim, SEGMENT=sizes.segment,
            num_warps=_MERGED_HEADS,
        )  # fmt: skip

    def _constants(self, vectors: int) -> tuple[dict[str, int], int]:
        """What an attention kernel is compiled for, and its programs for each tile."""
        needs, packed = self._needs, share(self._group, vectors)
        constants = {
            "HEADS": needs.num_heads,
            "KV_HEADS": needs.num_kv_heads,
            "DIM": needs.head_dim,
            "PAGE": needs.page_tokens,
            "SHARED": packed.heads,
            "PARTS": packed.parts,
            "POSITIONS": packed.positions,
            "M": vectors,
            "N": self.sizes.keys,
            "C": self._padded_dim,
            "SEGMENT": self.sizes.segment,
        }
        return constants, needs.num_kv_heads * packed.parts


_MERGED_HEADS = 4  # of a merging program: a warp for each
