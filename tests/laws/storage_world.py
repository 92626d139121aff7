"""A world with storage that lags behind: steps are carried out late, as a worker does, against poison and canaries.

Every token slot that is written gets a pattern made of the token prefix that it belongs to, hence of its sequence and
position. It is read back by every later step that sees it, by every operation that shares or publishes it, and before
its page is freed. What a page should hold is known from the streams (``claims``), not from what was moved.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infergc.heap.debug import DebugHeap
from infergc.heap.heap import Heap
from infergc.heap.moves import TRANSFERS, Move
from laws.oracle import LawBroken
from laws.shadow import POISON, Cells, Shadow, as_made, slots_of, tables_of
from laws.shapes import Shape
from laws.streams import Step, Stream
from laws.walk import operations, over
from laws.world import World


class NumpyStore(Shadow):
    """Storage as executors keep it under ``--heap-debug``, a prefix number in place of K and V."""

    def move(self, move: Move) -> None:
        pages = self.rows[move.group]
        if move.kind in TRANSFERS:
            self.transfer(move)
        elif move.kind == "poison":
            pages[move.src : move.dst + 1] = POISON
        elif move.kind == "check":
            stained = np.flatnonzero((pages[move.src : move.dst + 1] != POISON).any(1))
            if len(stained):
                raise LawBroken(f"page {move.src + int(stained[0])} was written while it was free")
        else:
            pages[move.dst, : move.tokens] = pages[move.src, : move.tokens]


class Later(Shadow):
    """Storage as it will be when moves that wait are made; it only reads."""

    def __init__(self, store: Shadow, moves: Iterable[Move]) -> None:
        self.store = store
        self.heap, self.size = store.heap, store.size
        self.copies = [move for move in moves if move.kind == "copy" or move.kind in TRANSFERS][::-1]

    def differs(self, group: int, slots: NDArray[np.int64], cells: Cells) -> NDArray[np.bool_]:
        return self._differs(group, slots, cells, np.zeros(len(slots), np.bool_))

    def host_differs(self, group: int, slots: NDArray[np.int64], cells: Cells) -> NDArray[np.bool_]:
        return self._differs(group, slots, cells, np.ones(len(slots), np.bool_))

    def _differs(
        self, group: int, slots: NDArray[np.int64], cells: Cells, below: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """As ``differs``; of the slots those are the host tier's that are ``below``."""
        pages, offsets = np.divmod(slots, self.size)
        wrong = np.zeros(len(slots), np.bool_)
        for move in self.copies:
            if move.group == group:
                here = (below == (move.kind == "store")) & (pages >= move.dst) & (pages < move.dst + move.pages)
                wrong |= here & (offsets >= move.tokens)
                pages = np.where(here, pages - move.dst + move.src, pages)
                below = np.where(here, move.kind == "load", below)
        at = pages * self.size + offsets
        for place, differs in ((~below, self.store.differs), (below, self.store.host_differs)):
            if place.any():
                wrong[place] |= differs(group, at[place], cells[place])
        return wrong


@dataclass(frozen=True)
class Launched:
    """A step that waits for the worker, and what its rows held when it was launched."""

    step: Step
    moves: tuple[Move, ...]
    cells: list[Cells]


class StorageWorld(World):
    """A world whose steps are carried out when ``run`` comes, or at the latest when they complete."""

    heap: DebugHeap
    heap_class = DebugHeap

    def __init__(self, shape: Shape, make_store: Callable[[Heap], Shadow] = NumpyStore) -> None:
        super().__init__(shape)
        self.shadow = make_store(self.heap)
        self.queue: deque[Launched] = deque()
        self.claims = [
            np.full((spec.capacity, shape.page_tokens), POISON, np.int64) for spec in self.heap.config.groups
        ]
        self._freed, self.heap.journal.freed = self.heap.journal.freed, self._read_back  # type: ignore[method-assign]

    def inspect(self) -> None:
        """Check every law."""
        self.heap.check()
        self.inspect_tiers()

    @property
    def waiting(self) -> Sequence[Move]:
        """Moves that are not made yet, in the order in which they will be."""
        return [*(move for launched in self.queue for move in launched.moves), *self.heap.moves]

    def later(self) -> Shadow:
        """See ``Below``."""
        return Later(self.shadow, self.waiting)

    def do_run(self, a: int, b: int, c: int) -> bool | None:
        """The worker carries out the step launched first: moves, then writes, then everything is read."""
        if not self.queue:
            return False
        launched = self.queue.popleft()
        self._make(launched)
        tables = launched.step.tables
        for at, (row, cells) in enumerate(zip(launched.step.rows, launched.cells, strict=True)):
            self.shadow.write(tables, at, row.start, cells[row.start :])
            self._claim(launched.step, at, cells)
        for at, cells in enumerate(launched.cells):
            self.shadow.verify(tables, at, cells, "law 5")
        return None

    def _make(self, launched: Launched) -> None:
        """Make a step's moves."""
        for move in launched.moves:
            self.shadow.move(move)
            if move.kind == "poison":
                self.claims[move.group][move.src : move.dst + 1] = POISON

    def do_complete(self, a: int, b: int, c: int) -> bool | None:
        while self.steps and self.queue and self.queue[0].step.number <= self.steps[0].number:
            self.do_run(0, 0, 0)
        return super().do_complete(a, b, c)

    def _run(self, step: Step, moves: tuple[Move, ...]) -> None:
        for at, row in enumerate(step.rows):
            self._write(row.stream, row.count)
            self._unread_by_others(step, at)
        self.queue.append(Launched(step, moves, [row.stream.expected(row.end) for row in step.rows]))

    def _verify(self, stream: Stream, law: str) -> None:
        tables = tables_of(self.heap, stream.sequence)
        self.later().verify(tables, 0, stream.expected(stream.computed), law)

    def _claim(self, step: Step, at: int, cells: Cells) -> None:
        """Note what the row's pages hold now."""
        for claims, table in zip(self.claims, step.tables, strict=True):
            held = cells[int(table.skipped[at]) * self.shape.page_tokens :]
            claims.reshape(-1)[slots_of(table, at, self.shape.page_tokens)[: len(held)]] = held

    def _read_back(self, group: int, first: int, pages: int) -> None:
        """Pages are freed: they still hold what was last written there."""
        size = self.shape.page_tokens
        slots = np.arange(first * size, (first + pages) * size)
        claimed = self.claims[group].reshape(-1)[slots]
        slots, claimed = slots[claimed != POISON], claimed[claimed != POISON]
        wrong = slots[self.shadow.differs(group, slots, claimed)]
        if len(wrong):
            page, offset = divmod(int(wrong[0]), size)
            raise LawBroken(f"law 3: token {offset} of page {page}, group {group}, was overwritten before it was freed")
        self.seen["read back"] += len(slots) > 0
        self._freed(group, first, pages)


class CopierWorld(StorageWorld):
    """A world whose moves between device and host are made by a copier, ahead of the worker, as far as it may.

    It needs only the moves of the step before to have been made, not what that computes. Nothing is poisoned.
    """

    heap_class = Heap  # type: ignore[assignment]

    def __init__(self, shape: Shape) -> None:
        World.__init__(self, shape)
        self.queue = deque()
        self.copied: set[int] = set()  # steps whose moves between device and host were made
        self.moved: set[int] = set()  # and all others too

    @property
    def waiting(self) -> Sequence[Move]:
        """See ``StorageWorld``."""
        launched = [move for one in self.queue for move in self._left(one)]
        return [*launched, *as_made(self.heap.moves)]

    def do_run(self, a: int, b: int, c: int) -> bool | None:
        """The copier makes its part of a step, or the worker makes its moves, or all of the first step."""
        if not self.queue:
            return False
        if a % 3 == 1:
            return self._run_ahead()
        if a % 3 == 2:
            self._make(self.queue[0])
            return None
        return super().do_run(a, b, c)

    def _run_ahead(self) -> bool:
        fresh = next((one for one in self.queue if one.step.number not in self.copied), None)
        if fresh is None or any(
            one.step.number not in self.moved for one in self.queue if one.step.number < fresh.step.number
        ):
            return False
        self._copy(fresh)
        self.seen["copied ahead"] += fresh is not self.queue[0] and any(move.kind in TRANSFERS for move in fresh.moves)
        return True

    def _copy(self, launched: Launched) -> None:
        for move in self._left(launched):
            if move.kind in TRANSFERS:
                self.shadow.move(move)
        self.copied.add(launched.step.number)

    def _make(self, launched: Launched) -> None:
        self._copy(launched)
        for move in self._left(launched):
            self.shadow.move(move)
        self.moved.add(launched.step.number)

    def _left(self, launched: Launched) -> list[Move]:
        """Which of a step's moves are not made yet."""
        number = launched.step.number
        done = self.copied, self.moved
        return [move for move in as_made(launched.moves) if number not in done[move.kind not in TRANSFERS]]

    def _claim(self, step: Step, at: int, cells: Cells) -> None:
        """Nothing is noted: no page is read back when it is freed."""


def storage_walk(
    world: StorageWorld,
    seed: int,
    count: int,
    *,
    laws: bool = True,
    unseen: Callable[[World], set[str]] = lambda _: set(),
) -> StorageWorld:
    """Do operations until the walk is ``over``; the worker catches up now and then."""
    for operation in operations(world.shape, seed):
        if over(world, count, unseen(world)):
            break
        world.apply(operation)
        if operation[3] % 3 == 0:
            world.apply(("run", operation[1], 0, 0))
        if laws:
            world.inspect()
    return world
