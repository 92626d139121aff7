"""Shadow memory: for every token slot of storage, which token prefix its KV belongs to."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infergc.heap.heap import Heap
from infergc.heap.moves import TRANSFERS, Move, PageTable
from infergc.heap.nodes import Namespace
from infergc.heap.objects import Sequence
from infergc.heap.space import Extent
from laws.oracle import LawBroken

POISON = -1  # in free pages
JUNK = -2  # in the part of a page that a copy leaves out

Cells = NDArray[np.int64]


class Prefixes:
    """Numbers for (namespace, token prefix): equal prefixes, equal numbers. Public ones are nobody's."""

    def __init__(self) -> None:
        self._ids: dict[tuple[object, ...], int] = {}

    def before(self, cells: list[int], namespace: Namespace, page_tokens: int) -> int:
        """What the next of these positions follows: a position, the beginning of all, or of what is the tenant's."""
        public = namespace.public * page_tokens
        if not cells:
            return self._number(("root", namespace.model, None if public else namespace.salt))
        if len(cells) == public:
            return self._number(("own", cells[-1], namespace.salt))
        return cells[-1]

    def next(self, parent: int, token: int, private: int | None) -> int:
        """The prefix ``parent`` and one token more; ``private`` tells inexact KV of one sequence apart."""
        return self._number((parent, token, private))

    def _number(self, key: tuple[object, ...]) -> int:
        return self._ids.setdefault(key, len(self._ids))


class Shadow:
    """Storage as executors keep it, a prefix number in place of K and V."""

    def __init__(self, heap: Heap) -> None:
        self.heap = heap
        self.size = heap.page_tokens
        self.rows = [np.full((pages.spec.capacity, self.size), POISON, np.int64) for pages in heap.groups]
        self.host = [np.full((heap.config.host_slots, self.size), POISON, np.int64) for _ in heap.groups]

    def move(self, move: Move) -> None:
        if move.kind in TRANSFERS:
            self.transfer(move)
            return
        page = self.rows[move.group]
        kept = page[move.src, : move.tokens].copy()
        page[move.dst] = JUNK
        page[move.dst, : move.tokens] = kept

    def transfer(self, move: Move) -> None:
        """Between device and host."""
        above, below = self.rows[move.group], self.host[move.group]
        source, target = (above, below) if move.kind == "store" else (below, above)
        target[move.dst : move.dst + move.pages] = source[move.src : move.src + move.pages]

    def after(self, moves: Iterable[Move]) -> "Shadow":
        """Storage as it will be when these moves are made."""
        if not moves:
            return self
        later = Shadow(self.heap)
        later.rows = [rows.copy() for rows in self.rows]
        later.host = [host.copy() for host in self.host]
        for move in as_made(moves):
            later.move(move)
        return later

    # ---- what lies in slots of the host tier

    def lift(self, slot: int) -> Any:
        """A slot's page of every group, as the disk keeps it."""
        return [host[slot].copy() for host in self.host]

    def lay(self, slot: int, page: Any) -> None:
        """Put a page into a slot, as ``lift`` gave it."""
        for host, cells in zip(self.host, page, strict=True):
            host[slot] = cells

    def host_differs(self, group: int, slots: NDArray[np.int64], cells: Cells) -> NDArray[np.bool_]:
        """Which of these token slots of the host tier hold anything but these prefixes."""
        return np.asarray(self.host[group].reshape(-1)[slots] != cells)

    def holds(self, slot: int, cells: Cells) -> bool:
        """Whether a slot of the host tier holds a page with these prefixes, in every group."""
        slots = np.arange(slot * self.size, (slot + 1) * self.size)
        return not any(self.host_differs(group, slots, cells).any() for group in range(len(self.heap.groups)))

    def write(self, tables: tuple[PageTable, ...], row: int, start: int, cells: Cells) -> None:
        """Store the prefixes of positions start … in the pages that the row's table names."""
        for rows, table in zip(self.rows, tables, strict=True):
            skipped = int(table.skipped[row]) * self.size
            slots = slots_of(table, row, self.size)[start - skipped : start - skipped + len(cells)]
            rows.reshape(-1)[slots] = cells

    def differs(self, group: int, slots: NDArray[np.int64], cells: Cells) -> NDArray[np.bool_]:
        """Which of these token slots hold anything but these prefixes."""
        return np.asarray(self.rows[group].reshape(-1)[slots] != cells)

    def verify(self, tables: tuple[PageTable, ...], row: int, cells: Cells, law: str) -> None:
        """Each position that the row holds has the prefix it should.

        Raises:
            LawBroken: with ``law`` at the front, for the first position that differs.
        """
        for group, table in enumerate(tables):
            skipped = int(table.skipped[row]) * self.size
            slots = slots_of(table, row, self.size)[: max(0, len(cells) - skipped)]
            wrong = np.flatnonzero(self.differs(group, slots, cells[skipped : skipped + len(slots)]))
            if len(wrong) or len(slots) < len(cells) - skipped:
                at = int(wrong[0]) if len(wrong) else len(slots)
                raise LawBroken(f"{law}: position {skipped + at} in group {group} does not hold its own prefix")

    def poison(self) -> None:
        """Overwrite what is free: whoever reads it finds out."""
        for group, (rows, pages) in enumerate(zip(self.rows, self.heap.groups, strict=True)):
            wanted = {
                move.src + at
                for move in self.heap.moves
                for at in range(move.pages)
                if move.kind == "store" and move.group == group
            }
            rows[[page for page in pages.space.free_pages() if page not in wanted]] = POISON


def as_made(moves: Iterable[Move]) -> list[Move]:
    """A plan's moves in the order in which executors make them: those between device and host go first."""
    return sorted(moves, key=lambda move: move.kind not in TRANSFERS)


def tables_of(heap: Heap, sequence: Sequence) -> tuple[PageTable, ...]:
    """The page tables of one sequence; of a parked one, whose pages are all sealed, as if it had a slot."""
    if sequence.slot >= 0:
        return tuple(table.gather(np.array([sequence.slot], np.int32)) for table in heap.tables)
    return tuple(_parked_table(extents, sequence.sealed) for extents in sequence.parked)


def _parked_table(extents: list[Extent], sealed: int) -> PageTable:
    columns = np.array(extents or [(0, 0)], np.int32)
    skipped = sealed - int(columns[:, 1].sum())
    return PageTable(columns[None, :, 0], columns[None, :, 1], np.array([skipped], np.int32))


def slots_of(table: PageTable, row: int, size: int) -> NDArray[np.int64]:
    """Token slots (page × size + offset) of a row's pages, in order."""
    return (pages_of(table, row)[:, None] * size + np.arange(size)).reshape(-1)


def pages_of(table: PageTable, row: int) -> NDArray[np.int64]:
    """Physical pages of a row, in order."""
    runs = zip(table.first[row].tolist(), table.pages[row].tolist(), strict=True)
    return np.concatenate([np.arange(first, first + length) for first, length in runs])
