"""What the full-precision model found likely, kept on disk: a row of log probabilities for each position.

So memory stays bounded whatever is compared: N positions · V tokens of vocabulary · 4 bytes lie in a file, and one row
of them at a time is read.
"""

import os
import shutil
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

_PARTIAL = ".partial"


class Likelihoods:
    """Rows of a window of text, [V] float32 each, by index. ``close`` lets go of the file.

    Args:
        file: of the rows.
        vocab_size: V.
        writes: whether they are written, to a partial file beside it until ``finish``; else they are read.
    """

    def __init__(self, file: Path, vocab_size: int, *, writes: bool) -> None:
        self._file = file
        self._row_bytes = vocab_size * 4
        self._partial = file.with_suffix(_PARTIAL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if writes else os.O_RDONLY
        self._descriptor = os.open(self._partial if writes else file, flags, 0o644)

    def write(self, index: int, row: NDArray[np.float32]) -> None:
        """Keep a row.

        Raises:
            OSError: there is no room for it.
        """
        if os.pwrite(self._descriptor, row.tobytes(), index * self._row_bytes) < self._row_bytes:
            raise OSError(f"{self._partial}: no room for the reference's log probabilities")

    def read(self, index: int) -> NDArray[np.float32]:
        """A row that was kept."""
        return np.frombuffer(os.pread(self._descriptor, self._row_bytes, index * self._row_bytes), np.float32)

    def finish(self) -> None:
        """All rows are there: the file gets its name."""
        self._partial.rename(self._file)

    def close(self) -> None:
        """Let go of the file. Harmless when repeated."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_room(directory: Path, size: int) -> None:
    """See that so many bytes can be kept there.

    Raises:
        OSError: the disk has less free.
    """
    free = shutil.disk_usage(directory).free
    if size > free:
        raise OSError(
            f"--out: the full-precision log probabilities take {size} bytes in {directory}, and {free} are free; "
            "take another folder, fewer --seeds or fewer --text-tokens"
        )
