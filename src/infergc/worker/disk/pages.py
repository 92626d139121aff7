"""What goes between the disk and whoever owns host memory: pages by their keys, and their bytes by slot."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16

I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]


class HostPages(Protocol):
    """The host arena as the disk sees it. Called on the disk's thread, for slots that its jobs name."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layer groups, at least 1."""

    def read(self, slot: int, out: U8) -> None:
        """Copy a slot's page to ``out [page_bytes]``."""

    def write(self, slot: int, data: U8) -> None:
        """Copy ``data [page_bytes]`` to a slot. The array is used again after the call."""


@dataclass(frozen=True, slots=True)
class DiskPage:
    """A page of a prefix, and where it lies in host memory.

    Attributes:
        key: 16 bytes that name the prefix up to the page's end.
        parent: 16 bytes that name it up to the page's beginning.
        tokens: the page's token ids, int32 ``[page_tokens]``.
        slot: of the host arena: what is written to disk, or where to put what is read.
    """

    key: bytes
    parent: bytes
    tokens: I32
    slot: int

    def identity(self, page_tokens: int) -> bytes:
        """Key, parent and token ids, as they stand in a segment: equal for equal pages only.

        Raises:
            ValueError: the key or parent has other than 16 bytes, or there are not ``page_tokens`` tokens.
        """
        if len(self.key) != KEY_BYTES or len(self.parent) != KEY_BYTES:
            raise ValueError(f"key and parent are {KEY_BYTES} bytes each, not {len(self.key)} and {len(self.parent)}")
        if self.tokens.shape != (page_tokens,):
            raise ValueError(f"tokens: shape {self.tokens.shape}; a page of this store has {page_tokens} tokens")
        return self.key + self.parent + self.tokens.astype("<i4").tobytes()
