"""The heap under ``--heap-debug``: the same heap, with a journal of its pages."""

import numpy as np

from infergc.heap.compactor import Compaction
from infergc.heap.errors import Finding, StorageCorruption, listed
from infergc.heap.groups import pages_for
from infergc.heap.heap import Heap
from infergc.heap.journal import PageJournal
from infergc.heap.moves import I32, PageTable
from infergc.heap.pages import Pages, page_numbers
from infergc.heap.retention import Retention
from infergc.heap.stats import HeapConfig
from infergc.heap.tables import Slots
from infergc.heap.watched import WatchedPages


class DebugHeap(Heap):
    """A heap that has freed pages poisoned and handed-out pages checked, and remembers whose they were.

    It grants, frees and plans exactly as ``Heap`` does: only ``take_moves`` gives more.

    Attributes:
        journal: what became of each page.
    """

    def __init__(self, config: HeapConfig, retention: Retention, compaction: Compaction | None = None) -> None:
        self.journal = PageJournal(config.groups, config.page_tokens)
        super().__init__(config, retention, compaction)
        self.moves = self.journal.moves
        self._owners: dict[int, list[str]] = {}  # step in flight → request of each of its rows

    def begin_step(self, slots: Slots, starts: I32, counts: I32) -> tuple[PageTable, ...]:
        """See Heap. Cost: O(pages written) more."""
        step = self.planning
        tables = super().begin_step(slots, starts, counts)
        owners = [self.sequences[holder].owner for holder in self.holder[slots].tolist()]
        rows = zip(slots.tolist(), starts.tolist(), np.add(starts, counts).tolist(), owners, strict=True)
        for slot, start, end, owner in rows:
            self._note_writes(slot, start // self.page_tokens, pages_for(end, self.page_tokens), owner)
        self._owners[step], self.journal.step = owners, self.planning
        return tables

    def complete(self, step: int) -> None:
        """See Heap."""
        super().complete(step)
        self._owners = {number: owners for number, owners in self._owners.items() if number > step}

    def explain(self, step: int, error: StorageCorruption) -> str:
        """What storage found in a step that is not completed yet, with what the heap knows of it."""
        return listed([self._explained(step, finding) for finding in error.findings])

    def _explained(self, step: int, finding: Finding) -> str:
        owners = self._owners.get(step, [])
        parts = [finding.what]
        if 0 <= finding.row < len(owners):
            parts.append(f"row {finding.row} is request {owners[finding.row]}")
        if finding.page >= 0:
            parts.append(self.journal.tell(finding.group, finding.page))
        return " | ".join(parts)

    def _note_writes(self, slot: int, low: int, high: int, owner: str) -> None:
        for group, table in enumerate(self.tables):
            pages = page_numbers(table.slice(slot, low, high)).tolist()
            self.journal.written(group, pages, self.planning - 1, owner)

    def _pages_of(self, group: int) -> Pages:
        return WatchedPages(self.config.groups[group], self.config.page_tokens, self.journal, group)
