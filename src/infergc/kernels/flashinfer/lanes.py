"""FlashInfer's wrappers, and when one may be planned anew. Importing this imports FlashInfer.

A plan of the library is written to pinned memory of its wrapper, and a copy that nobody waits for takes it to the
device. So a wrapper serves one plan of one step at a time, and is planned again when that copy is done.
"""

import torch
from flashinfer import BatchPrefillWithPagedKVCacheWrapper

from infergc.kernels.api import AttentionNeeds
from infergc.kernels.flashinfer.layout import Part
from infergc.units import MIB

_WORKSPACE_BYTES = 128 * MIB  # as much as the library recommends


class Lane:
    """One wrapper.

    Rows of one token take the kernels that the library calls fa2, as its own decode with tensor cores does: small
    tiles, and keys split among programs. For longer rows the library chooses; on Hopper that is fa3, which is faster
    and splits no keys. In one call with longer rows, those of one token would be given the longer ones' tiles.

    Args:
        needs: the shape.
        workspace: for partial results. Wrappers that run one after the other share it.
        decode: for rows of one token.
    """

    def __init__(self, needs: AttentionNeeds, workspace: torch.Tensor, *, decode: bool) -> None:
        self.decode = decode
        self._needs = needs
        self._wrapper = BatchPrefillWithPagedKVCacheWrapper(workspace, "HND", backend="fa2" if decode else "auto")
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def plan(self, part: Part, pages_I: torch.Tensor, scale: float, window_left: int) -> None:
        """Plan a part of a step, in the current stream's order; waits for the copy of the last plan.

        Args:
            part: its rows.
            pages_I: its page numbers, int32, on the device.
            scale: of scores.
            window_left: positions that a token sees before its own; -1 for all.
        """
        needs = self._needs
        self._copied.synchronize()
        try:
            self._wrapper.plan(  # the library reads the pointers on the host and takes them to the device itself
                torch.from_numpy(part.qo_indptr), torch.from_numpy(part.kv_indptr), pages_I,
                torch.from_numpy(part.last_page_len), needs.num_heads, needs.num_kv_heads, needs.head_dim,
                needs.page_tokens, causal=True, sm_scale=scale, window_left=window_left,
                q_data_type=needs.dtype, kv_data_type=needs.dtype,
            )  # fmt: skip
        finally:
            self._copied.record()

    def run(self, q_THD: torch.Tensor, k_NGPD: torch.Tensor, v_NGPD: torch.Tensor, out_THD: torch.Tensor) -> None:
        """Compute the planned rows' outputs."""
        self._wrapper.run(q_THD, (k_NGPD, v_NGPD), out=out_THD)


class Lanes:
    """All wrappers of a backend: those that no step has wait for the next."""

    def __init__(self, needs: AttentionNeeds) -> None:
        self._needs = needs
        self._workspace = torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device=needs.device)
        self._idle: dict[bool, list[Lane]] = {True: [], False: []}

    def take(self, *, decode: bool) -> Lane:
        """A wrapper for rows of one token or of more, to be given back."""
        idle = self._idle[decode]
        return idle.pop() if idle else Lane(self._needs, self._workspace, decode=decode)

    def give_back(self, lanes: list[Lane]) -> None:
        """Take wrappers back. Calls of theirs may still be under way: what is planned next comes after them."""
        for lane in lanes:
            self._idle[lane.decode].append(lane)
