"""Real KV storage behind a world: every element of K and V of a token slot says which token prefix it belongs to."""

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.heap.heap import Heap
from infergc.heap.moves import Move, PageTable
from infergc.models.spec import ModelSpec, RopeSpec
from infergc.worker.debug.guarded import GuardedStorage
from infergc.worker.memory.storage import LayerGroups
from laws.oracle import LawBroken
from laws.shadow import Cells, Shadow, slots_of

_HEADS, _DIMS, _LAYERS = 2, 4, 2  # layers in each group


class KVStore(Shadow):
    """``GuardedStorage`` with prefix numbers for K and V."""

    def __init__(self, heap: Heap, dtype: torch.dtype) -> None:
        self.heap = heap
        self.size = heap.page_tokens
        specs = heap.config.groups
        self.of_layer = tuple(at // _LAYERS for at in range(_LAYERS * len(specs)))
        self.words = torch.int32 if dtype.itemsize == 4 else torch.int16
        groups = LayerGroups(specs, self.of_layer)
        slots = heap.config.host_slots
        self.storage = GuardedStorage(model_of(len(self.of_layer), dtype), groups, specs, heap.page_tokens, slots)

    def move(self, move: Move) -> None:
        self.storage.apply((move,))
        self._nothing_is_wrong(self.storage.take_findings())

    def write(self, tables: tuple[PageTable, ...], row: int, start: int, cells: Cells) -> None:
        for group, table in enumerate(tables):
            skipped = int(table.skipped[row])
            at = start - skipped * self.size
            slots = slots_of(table, row, self.size)[at : at + len(cells)]
            for mark, x_NGPD in self._tensors(group):
                x_NGPD[slots // self.size, :, slots % self.size] = self._pattern(cells, mark)[:, None, None]
        self._nothing_is_wrong(self.storage.breaches())

    def differs(self, group: int, slots: NDArray[np.int64], cells: Cells) -> NDArray[np.bool_]:
        wrong = torch.zeros(len(slots), dtype=torch.bool)
        for mark, x_NGPD in self._tensors(group):
            held = x_NGPD[slots // self.size, :, slots % self.size]
            wrong |= (held != self._pattern(cells, mark)[:, None, None]).any(2).any(1)
        return np.asarray(wrong.numpy())

    def lift(self, slot: int) -> NDArray[np.uint8]:
        page = np.zeros(self.storage.host.page_bytes, np.uint8)
        self.storage.host.read(slot, page)
        return page

    def lay(self, slot: int, page: NDArray[np.uint8]) -> None:
        self.storage.host.write(slot, page)

    def host_differs(self, group: int, slots: NDArray[np.int64], cells: Cells) -> NDArray[np.bool_]:
        wrong = torch.zeros(len(slots), dtype=torch.bool)
        run_L2HGPD = self.storage.host.run(group, 0, self.heap.config.host_slots).view(self.words)
        for at, (mark, _) in enumerate(self._tensors(group)):
            held = run_L2HGPD[at // 2, at % 2][slots // self.size, :, slots % self.size]
            wrong |= (held != self._pattern(cells, mark)[:, None, None]).any(2).any(1)
        return np.asarray(wrong.numpy())

    def _tensors(self, group: int) -> list[tuple[int, torch.Tensor]]:
        """K and V of the group's layers as integers, each with a number of its own."""
        layers = [layer for layer, member in enumerate(self.of_layer) if member == group]
        return [(2 * at + v, self.storage.layer(at)[v].view(self.words)) for at in layers for v in (0, 1)]

    def _pattern(self, cells: Cells, mark: int) -> torch.Tensor:
        """No NaN, and so neither poison nor canary."""
        return torch.from_numpy((cells * 16 + mark) % (1 << 14)).to(self.words)

    @staticmethod
    def _nothing_is_wrong(findings: list[object]) -> None:
        if findings:
            raise LawBroken(f"storage: {findings[0]}")


def model_of(layers: int, dtype: torch.dtype) -> ModelSpec:
    """As much of a model as storage asks for."""
    return ModelSpec(
        architecture="Qwen2ForCausalLM",
        dtype=dtype,
        vocab_size=10,
        hidden_size=_HEADS * _DIMS,
        intermediate_size=8,
        num_heads=_HEADS,
        num_kv_heads=_HEADS,
        head_dim=_DIMS,
        windows=(None,) * layers,
        max_len=4096,
        rms_eps=1e-6,
        rope=RopeSpec(),
    )
