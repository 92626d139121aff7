"""KV storage: the memory behind page numbers, one arena a layer group, and the moves within it.

Shapes: N pages of a group, G KV heads, P tokens in a page, D head dim.
"""

from dataclasses import dataclass
from math import prod

import torch

from infergc.heap.errors import Finding
from infergc.heap.groups import GroupSpec
from infergc.models.spec import ModelSpec
from infergc.sched.plan import Move
from infergc.worker.arena import arena


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

    A group's memory is one anonymous mapping: zeros, of which the system commits only what was written.

    Args:
        model: gives heads, widths and dtype.
        groups: which layer lies in which group.
        specs: the same groups with their capacity in pages.
        page_tokens: P.
    """

    def __init__(self, model: ModelSpec, groups: LayerGroups, specs: tuple[GroupSpec, ...], page_tokens: int) -> None:
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = [_NOTHING] * model.num_layers
        self._members = tuple(
            [layer for layer, group in enumerate(groups.of_layer) if group == index] for index in range(len(specs))
        )
        for spec, members in zip(specs, self._members, strict=True):
            shape = (len(members), 2, spec.capacity, model.num_kv_heads, page_tokens, model.head_dim)
            for layer, kv in zip(members, self._memory(shape, model.dtype), strict=True):
                self._layers[layer] = (kv[0], kv[1])

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """K and V of a layer, ``[N, G, P, D]`` each."""
        return self._layers[index]

    def apply(self, moves: tuple[Move, ...]) -> None:
        """Carry out moves in order: for every layer of the group, K and V, the first tokens of a page."""
        for move in moves:
            for layer in self._members[move.group]:
                for x_NGPD in self._layers[layer]:
                    x_NGPD[move.dst, :, : move.tokens] = x_NGPD[move.src, :, : move.tokens]

    def inspect(self) -> list[Finding]:
        """What is wrong with storage, as far as this kind can tell: nothing guards it."""
        return []

    def _memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """K and V of a group's layers, ``[layers, 2, N, G, P, D]``; groups come in order."""
        return arena(prod(shape) * dtype.itemsize, dtype).view(shape)


_NOTHING = (torch.empty(0), torch.empty(0))
