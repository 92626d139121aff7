"""Who holds pages, and how they let go: sequences, beam groups and sessions in the object graph, work in flight.

Law 5 is kept here: every reference that a sequence drops goes through ``_release``, which hands it to work in
flight while a step may still read the page.
"""

from heapq import heapify, heappop, heappush
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from infergc.heap import cycles
from infergc.heap.graph import ObjectGraph
from infergc.heap.nodes import Namespace
from infergc.heap.objects import BeamGroup, HeapObject, KnownTokens, Pin, Sequence, Session, TokenLog
from infergc.heap.pages import page_numbers, runs_of
from infergc.heap.retention import Retention
from infergc.heap.space import Extent
from infergc.heap.state import HeapState
from infergc.heap.stats import HeapConfig

T = TypeVar("T", bound=HeapObject)


class Holdings(HeapState):
    """The part of the heap that opens and frees objects."""

    def __init__(self, config: HeapConfig, retention: Retention) -> None:
        super().__init__(config, retention)
        self.graph = ObjectGraph(self._freed)
        self._last_read: NDArray[np.int64] = np.full(config.max_sequences, -1, np.int64)  # step, by slot
        # Single entries go through views of the same memory: a third of the cost of numpy's own.
        self._length_at, self._barrier_at = self.length.data, self.barrier.data
        self._last_read_at, self._holder_at = self._last_read.data, self.holder.data
        self._next_id = 0
        self._slots = list(range(config.max_sequences))
        heapify(self._slots)

    # ---- sequences

    def open(self, owner: str, tokens: KnownTokens, namespace: Namespace) -> Sequence | None:
        """Open a sequence that holds nothing yet, with one root; None when every slot is taken. Cost: O(log slots)."""
        if not self._slots:
            return None
        root = self.tree.root(namespace)
        sequence = Sequence(self._new_id(), owner, heappop(self._slots), namespace, tokens, root)
        self.graph.add(sequence)
        self.tree.enter(root, self.planning)
        self.sequences[sequence.id] = sequence
        slot = sequence.slot
        self._length_at[slot], self._barrier_at[slot], self._last_read_at[slot] = 0, False, -1
        self._holder_at[slot] = sequence.id
        return sequence

    def close(self, sequence: Sequence) -> None:
        """Drop the sequence's root: its request has ended, and its slot is free for another.

        If nothing else keeps it, all that it holds goes, at once unless a step in flight reads it. If its session
        does, it is parked: it keeps its sealed pages, without a slot.
        Cost: O(extents).
        """
        if sequence.refs > sequence.roots:
            self._park(sequence)
        self.graph.unroot(sequence)

    def retire(self, sequence: Sequence) -> None:
        """No request runs in the sequence any more, though others may keep it: late tokens are nobody's. Cost: O(1)."""
        self._holder_at[sequence.slot] = -1

    # ---- beam groups and sessions

    def beam_group(self, owner: str) -> BeamGroup:
        """A new group without hypotheses, with one root. Cost: O(1)."""
        return self._added(BeamGroup(self._new_id(), owner))

    def session(self, owner: str) -> Session:
        """A new session without sequences, with one root. Cost: O(1)."""
        return self._added(Session(self._new_id(), owner))

    def join(self, whole: BeamGroup | Session, sequence: Sequence) -> None:
        """Let a sequence and its group or session hold each other. Cost: O(1)."""
        self.graph.hold(whole, sequence)
        self.graph.hold(sequence, whole)

    def leave(self, whole: BeamGroup | Session, sequence: Sequence) -> None:
        """Let a group or session and one of its sequences go their own ways. Cost: as ``close``.

        A session that was closed before and that only this sequence kept goes, and lets go of it by itself.
        """
        self.graph.let_go(sequence, whole)
        if sequence.id in whole.holds:
            self.graph.let_go(whole, sequence)

    def collect_cycles(self, budget: int) -> int:
        """Free cycles that nothing outside holds; returns the work done. See ``cycles.collect``."""
        freed, work = cycles.collect(self.graph, budget)
        if freed:
            self.counters.cycles += 1
            self.counters.cycle_objects += len(freed)
        return work

    # ---- steps

    def last_step(self, sequence: Sequence) -> int:
        """The last step begun that reads the sequence, -1 if none did. Cost: O(1)."""
        return int(self._last_read[sequence.slot])

    def complete(self, step: int) -> None:
        """Steps up to ``step`` are done: what only they held is dropped. Cost: O(extents dropped)."""
        self.completed = step
        for done in [number for number in self.flights if number <= step]:
            del self.flights[done]
        over = [hold for hold in self.held if hold.step <= step]
        self.held = [hold for hold in self.held if hold.step > step]
        for hold in over:
            for group, extent in hold.extents():
                self.groups[group].release([extent])

    # ---- steps of the operations above

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _added(self, one: T) -> T:
        self.graph.add(one)
        return one

    def _freed(self, one: HeapObject) -> None:
        """Nothing holds the object any more: give up what it holds."""
        if not isinstance(one, Sequence):
            return
        if one.slot >= 0:
            for group, table in enumerate(self.tables):
                self._drop(one, group, table.clear(one.slot))
            self._vacate(one)
        for group, extents in enumerate(one.parked):
            self._release(group, extents, one.last_read)
        if isinstance(one, Pin):
            self._count_out(one)
        self.tree.leave(one.tip, self.planning)
        del self.sequences[one.id]
        self.owners.remember(one.id, one.owner)

    def _count_out(self, pin: Pin) -> None:
        for node in self.tree.path(pin.tip):
            node.pins -= 1
            self.pinned -= 0 if node.pins else node.length

    def _park(self, sequence: Sequence) -> None:
        """Move the sealed pages from the sequence's row to extents of its own, and give the rest and the slot back."""
        for group, table in enumerate(self.tables):
            skipped, _ = table.span(sequence.slot)  # a window may have slid past what is sealed
            self._drop(sequence, group, table.drop_tail(sequence.slot, max(sequence.sealed, skipped)))
        sequence.parked = tuple(table.clear(sequence.slot) for table in self.tables)
        sequence.last_read = self._last_read_at[sequence.slot]
        sealed = sequence.tokens.view()[: sequence.sealed * self.page_tokens]
        sequence.tokens = TokenLog(sealed)  # a copy: the slot's are reused
        self._vacate(sequence)

    def _cut_parked(self, sequence: Sequence, pages: int) -> None:
        """Take its last sealed pages from a parked sequence. Cost: O(pages held) array work."""
        kept: list[list[Extent]] = []
        for group, extents in enumerate(sequence.parked):
            numbers = page_numbers(extents)
            keep = max(0, len(numbers) - pages)
            kept.append(runs_of(numbers[:keep]))
            self._release(group, runs_of(numbers[keep:]), sequence.last_read)
        sequence.parked = tuple(kept)

    def _vacate(self, sequence: Sequence) -> None:
        self._holder_at[sequence.slot] = -1
        heappush(self._slots, sequence.slot)
        sequence.slot = -1

    def _drop(self, sequence: Sequence, group: int, extents: list[Extent]) -> None:
        if extents:
            self._release(group, extents, self._last_read_at[sequence.slot])

    def _release(self, group: int, extents: list[Extent], step: int) -> None:
        """Drop references when ``step`` is done, which is the last that reads the pages."""
        if step <= self.completed:
            self.groups[group].release(extents)
        else:
            self.hold(step, group, extents)
