"""The memory of the host tier: slots for pages of every layer group, laid out as on the device.

Shapes: L layers of a group, H slots, G KV heads, P tokens in a page, D head dim.
"""

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.worker.devices.device import Device


class HostStorage:
    """K and V of pages that left the device, one arena a layer group, of which the system commits what was written.

    A run of slots is as many pieces as there are layers, twice.

    Attributes:
        page_bytes: of one page, over all layer groups.

    Args:
        device: copies from and to it.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.page_bytes = 0
        self._arenas: list[torch.Tensor] = []  # [L, 2, H, G, P, D]

    def add(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Make the arena of the next layer group, ``[L, 2, H, G, P, D]``; H may be 0."""
        size = prod(shape) * dtype.itemsize
        memory = self._device.host_memory(size).view(dtype).view(shape) if size else torch.empty(shape, dtype=dtype)
        self._arenas.append(memory)
        self.page_bytes += size // shape[2] if shape[2] else 0

    def run(self, group: int, first: int, slots: int) -> torch.Tensor:
        """Neighbouring slots of a group, ``[L, 2, slots, G, P, D]``."""
        return self._arenas[group][:, :, first : first + slots]

    def read(self, slot: int, out: NDArray[np.uint8]) -> None:
        """Gather a slot's page of every layer group, [page_bytes]."""
        for piece, part in self._pieces(slot, out):
            part.copy_(piece)

    def write(self, slot: int, data: NDArray[np.uint8]) -> None:
        """Put a page of every layer group into a slot, [page_bytes], as ``read`` gave it."""
        for piece, part in self._pieces(slot, data):
            piece.copy_(part)

    def _pieces(self, slot: int, flat: NDArray[np.uint8]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The slot's page in each group and its part of the flat bytes, of one shape."""
        found, at, whole = [], 0, torch.from_numpy(flat)
        for arena_L2HGPD in self._arenas:
            piece = arena_L2HGPD[:, :, slot].view(torch.uint8)
            found.append((piece, whole[at : at + piece.numel()].view(piece.shape)))
            at += piece.numel()
        return found
