"""Rare per-slot numbers for single tokens (logit bias, banned end tokens), applied to all rows at once."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Hits = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]  # row, token, value of each entry


class SlotEntries:
    """For some slots, a few (token, value) entries.

    They are kept joined in three arrays that are rebuilt when a slot with entries changes, so that a
    step costs a few array operations over all entries, and nothing at all where there are none.
    """

    def __init__(self, max_num_seqs: int) -> None:
        self._by_slot: dict[int, Mapping[int, float]] = {}
        self._row_of = np.full(max_num_seqs, -1, np.int64)
        self._slots, self._tokens, self._values = _join({})

    def set(self, slot: int, entries: Mapping[int, float]) -> None:
        """Replace a slot's entries (token → value)."""
        if not entries and slot not in self._by_slot:
            return
        by_slot = {key: each for key, each in self._by_slot.items() if key != slot}
        if entries:
            by_slot[slot] = dict(entries)
        self._slots, self._tokens, self._values = _join(by_slot)  # first: where memory is refused, nothing has changed
        self._by_slot = by_slot

    def at(self, slots: NDArray[np.integer]) -> Hits | None:
        """The entries of these slots, each with its row in ``slots``; None if there are none."""
        if not self._by_slot:
            return None
        try:
            self._row_of[slots] = np.arange(len(slots))
            rows = self._row_of[self._slots]
        finally:  # or the next step would take these slots for its own
            self._row_of[slots] = -1
        hit = rows >= 0
        return (rows[hit], self._tokens[hit], self._values[hit]) if hit.any() else None


def _join(by_slot: Mapping[int, Mapping[int, float]]) -> Hits:
    slots = [slot for slot, entries in by_slot.items() for _ in entries]
    tokens = [token for entries in by_slot.values() for token in entries]
    values = [value for entries in by_slot.values() for value in entries.values()]
    return np.array(slots, np.int64), np.array(tokens, np.int64), np.array(values, np.float64)
