"""What FlashInfer documents of its wrapper, in torch: the library itself runs on GPUs only.

It computes from what it is given and from nothing else, so that wrong pointers, lengths or windows give wrong
attention. It also keeps the time of the device: the copy of a plan is under way until somebody waits for it.

Shapes: H query heads, G KV heads, D head dim, N pages, P tokens in a page, K keys and Q queries of a row.
"""

from types import ModuleType
from typing import Any, ClassVar

import torch


class Event:
    """Implements what is used of ``torch.cuda.Event``."""

    def __init__(self) -> None:
        self._copies: list[BatchPrefillWithPagedKVCacheWrapper] = []

    def record(self) -> None:
        self._copies = [wrapper for wrapper in BatchPrefillWithPagedKVCacheWrapper.made if wrapper.copying]

    def synchronize(self) -> None:
        for wrapper in self._copies:
            wrapper.copying = False


class BatchPrefillWithPagedKVCacheWrapper:
    """Attention over paged KV, planned and then run (docs.flashinfer.ai, flashinfer.prefill).

    Attributes:
        made: all wrappers.
        backend: the kernels that were asked for.
        plans: what each plan was given by name.
        copying: a plan may be on its way from this wrapper's pinned memory.
    """

    made: ClassVar[list["BatchPrefillWithPagedKVCacheWrapper"]] = []

    def __init__(self, float_workspace_buffer: torch.Tensor, kv_layout: str = "NHD", *, backend: str = "auto") -> None:
        assert kv_layout == "HND"
        assert float_workspace_buffer.dtype is torch.uint8
        self.backend = backend
        self.plans: list[dict[str, Any]] = []
        self.copying = False
        self.made.append(self)

    def plan(
        self,
        qo_indptr: torch.Tensor,
        paged_kv_indptr: torch.Tensor,
        paged_kv_indices: torch.Tensor,
        paged_kv_last_page_len: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        page_size: int,
        **settings: Any,
    ) -> None:
        assert not self.copying, "a plan overwrites one that may be under way"
        assert qo_indptr[0] == paged_kv_indptr[0] == 0
        assert len(paged_kv_indices) == paged_kv_indptr[-1]
        arrays = (qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len)
        assert all(array.dtype is torch.int32 for array in arrays)
        assert settings["causal"]
        self._arrays = [array.tolist() for array in arrays]
        self._heads = num_qo_heads, num_kv_heads, head_dim_qk, page_size
        self.plans.append(settings)
        self.copying = True

    def run(
        self, q: torch.Tensor, paged_kv_cache: tuple[torch.Tensor, torch.Tensor], *, out: torch.Tensor
    ) -> torch.Tensor:
        heads, _, dims, size = self._heads
        qo_indptr, kv_indptr, indices, last_page_len = self._arrays
        assert q.shape == out.shape == (qo_indptr[-1], heads, dims)
        assert q.dtype is self.plans[-1]["q_data_type"]
        assert out.is_contiguous()
        for row, last in enumerate(last_page_len):
            pages = indices[kv_indptr[row] : kv_indptr[row + 1]]
            keys = (len(pages) - 1) * size + last
            queries = slice(qo_indptr[row], qo_indptr[row + 1])
            k_GKD, v_GKD = (x[pages].transpose(0, 1).flatten(1, 2)[:, :keys].float() for x in paged_kv_cache)
            out[queries] = self._attend(q[queries].float(), k_GKD, v_GKD).to(out.dtype)
        return out

    def _attend(self, q_QHD: torch.Tensor, k_GKD: torch.Tensor, v_GKD: torch.Tensor) -> torch.Tensor:
        settings, (heads, kv_heads, _, _) = self.plans[-1], self._heads
        keys, queries = k_GKD.shape[1], len(q_QHD)
        own_Q1 = torch.arange(keys - queries, keys)[:, None]
        far_QK = own_Q1 - torch.arange(keys)
        seen_QK = far_QK >= 0
        if settings["window_left"] >= 0:
            seen_QK &= far_QK <= settings["window_left"]
        k_HKD, v_HKD = (x.repeat_interleave(heads // kv_heads, dim=0) for x in (k_GKD, v_GKD))
        scores_HQK = settings["sm_scale"] * (q_QHD.transpose(0, 1) @ k_HKD.transpose(1, 2))
        weights_HQK = scores_HQK.masked_fill(~seen_QK, float("-inf")).softmax(-1)
        return (weights_HQK @ v_HKD).transpose(0, 1)


def library() -> ModuleType:
    """The module that holds the wrapper, as ``import flashinfer`` would find it; none is made yet."""
    BatchPrefillWithPagedKVCacheWrapper.made.clear()
    module = ModuleType("flashinfer")
    module.BatchPrefillWithPagedKVCacheWrapper = BatchPrefillWithPagedKVCacheWrapper
    return module
