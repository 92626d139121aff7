"""KV storage: the memory behind page numbers, one arena a layer group, and the moves within it.

Shapes: L layers of a group, N its pages, G KV heads, P tokens in a page, D head dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from math import prod

import torch

from infergc.heap.errors import Finding
from infergc.heap.groups import GroupSpec
from infergc.heap.moves import TRANSFERS, Move
from infergc.models.spec import ModelSpec
from infergc.units import ceil_div
from infergc.worker.devices.device import Device, HostDevice
from infergc.worker.memory.host_storage import HostStorage

Shape = tuple[int, ...]

_ALIGNMENT = 1 << 21  # bytes between groups: what a GPU maps at a time


@dataclass(frozen=True, slots=True)
class LayerGroups:
    """Which layer group each layer belongs to: one group for full attention, one for each window."""

    specs: tuple[GroupSpec, ...]
    of_layer: tuple[int, ...]  # layer → index in specs


def layer_groups(model: ModelSpec, page_tokens: int) -> LayerGroups:
    """Group a model's layers by their window; full attention comes first."""
    windows = sorted(set(model.windows), key=lambda window: (window is not None, window or 0))
    layer_bytes = 2 * page_tokens * model.kv_width * model.dtype.itemsize
    specs = tuple(
        GroupSpec(
            name="full" if window is None else "window",
            page_bytes=model.windows.count(window) * layer_bytes,
            window=window,
        )
        for window in windows
    )
    return LayerGroups(specs, tuple(windows.index(window) for window in model.windows))


class KVStorage:
    """K and V of every layer, apart, each ``[N, G, P, D]``: a run of adjacent pages is one contiguous piece.

    All groups' memory is one arena: zeros, of which the host's system commits only what was written.

    Attributes:
        host: the memory of the host tier.
        page_tokens: P.

    Args:
        model: gives heads, widths and dtype.
        groups: which layer lies in which group.
        specs: the same groups with their capacity in pages.
        page_tokens: P.
        host_slots: pages of each group that fit into the host tier, where they lie as here.
        device: whose memory it is; None: the host's.
    """

    in_order = False  # whether moves between device and host have to be made in their turn among the others

    def __init__(
        self,
        model: ModelSpec,
        groups: LayerGroups,
        specs: tuple[GroupSpec, ...],
        page_tokens: int,
        host_slots: int = 0,
        device: Device | None = None,
    ) -> None:
        self.device = device or HostDevice()
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = [_NOTHING] * model.num_layers
        self._members: list[list[int]] = [  # layers of each group
            [layer for layer, group in enumerate(groups.of_layer) if group == index] for index in range(len(specs))
        ]
        self.page_tokens = page_tokens
        shapes = [
            (len(members), 2, spec.capacity, model.num_kv_heads, page_tokens, model.head_dim)
            for members, spec in zip(self._members, specs, strict=True)
        ]
        self._arenas = self._memory(shapes, model.dtype)  # [L, 2, N, G, P, D]
        self.host = HostStorage(self.device)
        for members, shape, arena_L2NGPD in zip(self._members, shapes, self._arenas, strict=True):
            self.host.add((*shape[:2], host_slots, *shape[3:]), model.dtype)
            for layer, kv in zip(members, arena_L2NGPD, strict=True):
                self._layers[layer] = (kv[0], kv[1])

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """K and V of a layer, ``[N, G, P, D]`` each."""
        return self._layers[index]

    def apply(self, moves: tuple[Move, ...]) -> None:
        """Carry out moves in order: for every layer of the group, K and V, the first tokens of a page."""
        for (kind, group), alike in groupby(moves, lambda move: (move.kind, move.group)):
            if kind in TRANSFERS:
                for move in alike:
                    self.transfer(move)
            else:
                self.device.move(self._arenas[group], tuple(alike))

    def transfer(self, move: Move) -> None:
        """Copy a run of pages between device and host."""
        arena_L2NGPD = self._arenas[move.group]
        if move.kind == "store":
            run_L2NGPD = arena_L2NGPD[:, :, move.src : move.src + move.pages]
            self.device.copy(run_L2NGPD, self.host.run(move.group, move.dst, move.pages))
        else:
            run_L2NGPD = arena_L2NGPD[:, :, move.dst : move.dst + move.pages]
            self.device.copy(self.host.run(move.group, move.src, move.pages), run_L2NGPD)

    def size(self, move: Move) -> int:
        """Bytes of the pages of a move, in all layers of the group."""
        arena_L2NGPD = self._arenas[move.group]
        return arena_L2NGPD[:, :, 0].numel() * arena_L2NGPD.itemsize * move.pages

    def inspect(self) -> list[Finding]:
        """What is wrong with storage, as far as this kind can tell: nothing guards it."""
        return []

    def _memory(self, shapes: Sequence[Shape], dtype: torch.dtype) -> list[torch.Tensor]:
        """K and V of each group's layers, ``[L, 2, N, G, P, D]``, out of one arena."""
        sizes = [prod(shape) * dtype.itemsize for shape in shapes]
        ends = list(accumulate(ceil_div(size, _ALIGNMENT) * _ALIGNMENT for size in sizes))
        whole = self.device.memory(ends[-1])
        return [
            whole[start : start + size].view(dtype).view(shape)
            for start, size, shape in zip([0, *ends], sizes, shapes, strict=False)
        ]


_NOTHING = (torch.empty(0), torch.empty(0))
