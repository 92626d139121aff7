"""A group's memory under ``--heap-debug``: free pages hold poison, and bands of canaries lie around every tensor.

Both are NaNs with a payload of their own. Nothing that computes makes them by chance, so an unchanged one says that
nobody wrote here; and as NaNs they show in the logits when somebody read here.

Shapes: X tensors of the group (K and V of each layer, in order), N pages, E elements of a page of one tensor,
B elements of a band, G KV heads, P tokens in a page, D head dim.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch

from infergc.units import ceil_div
from infergc.worker.devices.arena import arena

_BAND_BYTES = 4096  # least width of a band, and what its width is a multiple of: tensors begin where they would
_CHUNK = 16  # pages compared at once: bounds what a check takes in memory


@dataclass(frozen=True, slots=True)
class Marks:
    """Bit patterns of two quiet NaNs, in integers as wide as the elements of KV."""

    words: torch.dtype
    mask: int
    poison: int
    canary: int


_MARKS = {
    2: Marks(torch.int16, 0xFFFF, 0x7FDE, 0x7FCA),  # NaNs in bfloat16 as well as in float16
    4: Marks(torch.int32, 0xFFFF_FFFF, 0x7FDE_C0DE, 0x7FCA_C0DE),
}


class Stain(NamedTuple):
    """A page that does not hold poison throughout: the first wrong element, what stands there, how many are wrong."""

    page: int
    tensor: int  # of X
    element: int  # of E
    found: int
    values: int


class Breach(NamedTuple):
    """A band that was written to."""

    tensor: int
    side: int  # 0 before the tensor, 1 behind it
    offset: int  # of the nearest wrong element: elements behind the last page, or before the first, from 1 on
    values: int


class GuardedArena:
    """Memory of a group.

    Args:
        shape: layers, 2, N, G, P, D.
        dtype: of KV; two or four bytes.

    Attributes:
        tensors: K and V of every layer, of that shape; each layer's K is contiguous, and so is its V.
        marks: what lies in free pages and in bands.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        layers, kinds, pages, *inner = shape
        tensors, page = layers * kinds, prod(inner)
        least = _BAND_BYTES // dtype.itemsize
        band = ceil_div(page, least) * least  # a write to the page before the first, or after the last, hits it
        pitch = 2 * band + pages * page
        memory = arena(tensors * pitch * dtype.itemsize, dtype)
        steps = [prod(inner[at + 1 :]) for at in range(len(inner))]
        self.tensors = memory.as_strided(shape, (kinds * pitch, pitch, page, *steps), band)
        self.marks = _MARKS[dtype.itemsize]
        words = memory.view(self.marks.words)
        self._pages_XNE = words.as_strided((tensors, pages, page), (pitch, page, 1), band)
        self._bands_X2B = words.as_strided((tensors, 2, band), (pitch, band + pages * page, 1))
        self._inner = tuple(inner)
        words.fill_(self.marks.poison)
        self._bands_X2B.fill_(self.marks.canary)

    def poison(self, first: int, last: int) -> None:
        """Fill pages first … last. Cost: one pass over their memory."""
        self._pages_XNE[:, first : last + 1].fill_(self.marks.poison)

    def stains(self, first: int, last: int) -> Iterator[Stain]:
        """Which of the pages first … last hold anything but poison. Cost: one pass over their memory."""
        for low in range(first, last + 1, _CHUNK):
            wrong_XNE = self._pages_XNE[:, low : min(low + _CHUNK, last + 1)] != self.marks.poison
            if wrong_XNE.any():
                for page in wrong_XNE.any(0).any(1).nonzero().flatten().tolist():
                    tensor, element = wrong_XNE[:, page].nonzero()[0].tolist()
                    found = int(self._pages_XNE[tensor, low + page, element]) & self.marks.mask
                    yield Stain(low + page, tensor, element, found, int(wrong_XNE[:, page].sum()))

    def breaches(self) -> list[Breach]:
        """Bands that were written to; they are filled anew, so that each breach is told once. Cost: X × 2B."""
        wrong_X2B = self._bands_X2B != self.marks.canary
        if not wrong_X2B.any():
            return []
        found = []
        for tensor, side in wrong_X2B.any(2).nonzero().tolist():
            at = wrong_X2B[tensor, side].nonzero().flatten()
            offset = int(at[0]) + 1 if side else wrong_X2B.shape[2] - int(at[-1])
            found.append(Breach(tensor, side, offset, len(at)))
        self._bands_X2B.fill_(self.marks.canary)
        return found

    def poisoned_slots(self, page: int) -> torch.Tensor:
        """Which token slots of a page hold poison, in any tensor, bool ``[P]``."""
        heads, tokens, dims = self._inner
        poisoned_XE = self._pages_XNE[:, page] == self.marks.poison
        return poisoned_XE.view(-1, heads, tokens, dims).any(3).any(1).any(0)

    def place(self, element: int) -> tuple[int, int, int]:
        """KV head, token and dim of an element of a page."""
        _, tokens, dims = self._inner
        return element // (tokens * dims), element // dims % tokens, element % dims
