"""What a disk tier's files hold of a text, found by reading them: no server is asked."""

from pathlib import Path

import numpy as np

from infergc.worker.disk.pages import KEY_BYTES
from infergc.worker.disk.record import Damaged
from infergc.worker.disk.segment import look_through
from samples.disk_pages import segments


class Persisted:
    """The pages in a directory's segments, whose page bytes may all be there.

    Args:
        directory: of the disk tier; what is written meanwhile may or may not be seen.
        page_tokens, page_bytes: of the pages looked for.
    """

    def __init__(self, directory: Path, page_tokens: int, page_bytes: int) -> None:
        self._page_tokens = page_tokens
        self._after: dict[tuple[bytes, bytes], bytes] = {}  # key of the page before, token ids → key
        for path in segments(directory):
            self._add(path, page_bytes)
        keys = set(self._after.values())
        self._roots = {before for before, _ in self._after if before not in keys}

    def __len__(self) -> int:
        return len(self._after)

    def tokens(self, text: list[int]) -> int:
        """How many tokens of a text are there, in whole pages from its first on, in the namespace that has most."""
        return max((self._from(root, text) for root in self._roots), default=0)

    def _from(self, before: bytes, text: list[int]) -> int:
        found = 0
        for low in range(0, len(text) - self._page_tokens + 1, self._page_tokens):
            key = self._after.get((before, np.array(text[low : low + self._page_tokens], "<i4").tobytes()))
            if key is None:
                break
            before, found = key, found + self._page_tokens
        return found

    def _add(self, path: Path, page_bytes: int) -> None:
        try:
            found, data = look_through(path, self._page_tokens, page_bytes), path.read_bytes()
        except (Damaged, FileNotFoundError):  # it is just being made, or just went
            return
        for number, key in found.keys:
            identity = data[found.layout.entry_at(number) :][: found.layout.identity_bytes]
            self._after[identity[KEY_BYTES : 2 * KEY_BYTES], identity[2 * KEY_BYTES :]] = key
