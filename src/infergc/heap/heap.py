"""The Heap facade: sequences hold pages, the prefix tree shares them, steps in flight keep them.

Law 9 is kept here: ``reserve`` counts before it touches anything.
Words and laws: docs/laws.md. P is page_tokens.
"""

from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from infergc.heap.compactor import Compaction, Compactor
from infergc.heap.errors import HeapCorruption
from infergc.heap.groups import pages_for
from infergc.heap.laws import violations
from infergc.heap.lowering import Lowering
from infergc.heap.moves import I32, Move, PageTable
from infergc.heap.names import PageName
from infergc.heap.nodes import Node
from infergc.heap.objects import Sequence, StepReads, TokenLog
from infergc.heap.pages import page_numbers, runs_of
from infergc.heap.provenance import Place, taken_by
from infergc.heap.reclaim import Reclaimer
from infergc.heap.retention import Retention
from infergc.heap.space import TAIL_TOKENS, Extent
from infergc.heap.stats import HeapConfig
from infergc.heap.tables import BlockTables, Slots


class Heap(Lowering):
    """Memory of KV pages. Every call is made at a safepoint, on one thread."""

    def __init__(self, config: HeapConfig, retention: Retention, compaction: Compaction | None = None) -> None:
        super().__init__(config, retention)
        self.compactor = None if compaction is None else Compactor(self, compaction)
        finalize = None if self.tiers is None else self.tiers.demote
        self.reclaimer = Reclaimer(self.tree, self.groups, self.sequences, self.counters, self._cut_parked, finalize)
        self._private = [-1] * len(config.groups)  # no group's tail needs a copy
        self._tail = TAIL_TOKENS // config.page_tokens  # pages that a growing tail hopes to find side by side

    # ---- sequences

    def share_prefix(self, sequence: Sequence, limit: int, *, whole_pages: bool = False) -> int:
        """Give an empty sequence the longest cached prefix of its first ``limit`` tokens.

        Whole pages are shared. A page that matches in part is shared too and copied by the write barrier
        when the sequence is first extended. Leave the last known token out of ``limit``: it must be computed
        for its logits.

        Returns:
            Tokens whose KV need not be computed.
        Cost: O(tokens matched) array work, O(edges) calls.
        """
        if not (self.config.prefix_caching and sequence.exact):
            return 0
        match = self.tree.match(sequence.namespace, sequence.tokens.view(), limit)
        if whole_pages:
            match.partial, match.partial_tokens = None, 0
        total = match.pages * self.page_tokens + match.partial_tokens
        if not total:
            return 0
        self.tree.stand(sequence, self.tree.settle(match.node, match.into, self.planning), match.pages, self.planning)
        chain = self.tree.path(sequence.tip)
        for group in range(len(self.groups)):
            columns = [node.pages[group].view() for node in chain]
            if match.partial is not None:
                node, page = self._locate(match.partial, match.node, match.into)
                columns.append(node.pages[group].view()[page : page + 1])
            self._share(sequence, group, columns[0] if len(columns) == 1 else np.concatenate(columns), total)
        self._length_at[sequence.slot] = total
        self._barrier_at[sequence.slot] = match.partial is not None
        for node in chain:
            self.tree.serve(node, self.planning)
        return total

    def restore(self, sequence: Sequence, names: SequenceOf[PageName], most: int) -> int:
        """Give a sequence pages that ``below`` found for it, which the step being planned copies, and publish them.

        Args:
            sequence: a new one, with whole pages alone. What it has more of, a fork from others, is given back.
            names: what was found.
            most: pages to ask for at once: more than that would not fit into a sliding window's group.

        Returns:
            Tokens whose KV need not be computed: fewer than were found where memory is short. Cost: O(pages).
        """
        assert self.tiers is not None
        size, done = self.page_tokens, sequence.sealed
        self.truncate(sequence, done * size)
        for at in range(0, len(names), most):
            part = names[at : at + most]
            if not self.reserve([(sequence, (done + len(part)) * size)]):
                break
            pages = [page_numbers(table.slice(sequence.slot, done, done + len(part))) for table in self.tables]
            self._drop_copies_to(pages)
            self.tiers.restore(part, pages)
            done += len(part)
            self.publish(sequence, done * size)
            self.slide(sequence, done * size)
        return done * size

    def asked(self, sequence: Sequence, prompt_len: int) -> None:
        """A request starts for the first time, with so many tokens of prompt: retention may remember it."""
        if self.config.prefix_caching and sequence.exact:
            sequence.marks = self.tree.order.retention.asked(sequence.namespace, sequence.tokens.view()[:prompt_len])

    def fork(self, sequence: Sequence, owner: str) -> Sequence | None:
        """Open a branch that shares every page; either side copies the tail when it first writes to it.

        The caller sees to it that every granted slot is computed (``truncate`` to the computed tokens if not):
        only the last page is copied before it is written. None when every slot is taken.
        Cost: O(extents) calls and O(pages) array work, nothing per token but the copy of the known ids.

        Raises:
            ValueError: a step in flight still writes to the sequence.
        """
        if self._last_read[sequence.slot] > self.completed:
            raise ValueError("fork: a step in flight still writes to this sequence; complete it first")
        branch = self.open(owner, TokenLog(sequence.tokens.view()), sequence.namespace)
        if branch is None:
            return None
        for group, table in enumerate(self.tables):
            self.groups[group].retain(table.copy(sequence.slot, branch.slot), taken_by(branch.id, Place.FORK))
        self.tree.stand(branch, sequence.tip, sequence.sealed, self.planning)
        branch.exact, branch.publishing = sequence.exact, sequence.publishing
        self.length[branch.slot] = self.length[sequence.slot]
        self.barrier[[branch.slot, sequence.slot]] = True
        return branch

    def taint(self, sequence: Sequence) -> None:
        """From here on the sequence's KV is not exact: it is never published (law 8).

        Pages that it alone holds and has not published may be written so, and are marked. Cost: O(pages).
        """
        sequence.exact = False
        granted = pages_for(int(self.length[sequence.slot]), self.page_tokens)
        for pages, table in zip(self.groups, self.tables, strict=True):
            held = page_numbers(table.slice(sequence.slot, sequence.sealed, granted))
            pages.lossy[held[(pages.count[held] == 1) & ~pages.sealed[held]]] = True

    # ---- growing and shrinking

    def crossing(self, slots: Slots, lengths: I32) -> NDArray[np.bool_]:
        """Which of these growths need ``reserve``; for the others ``advance`` will do. Cost: O(rows) array work."""
        size = self.page_tokens
        return np.asarray(((lengths - 1) // size > (self.length[slots] - 1) // size) | self.barrier[slots])

    def advance(self, slots: Slots, lengths: I32) -> None:
        """Grow sequences, to no less than their length, inside the page they hold. Cost: O(rows) array work."""
        self.length[slots] = lengths

    def reserve(self, wants: SequenceOf[tuple[Sequence, int]]) -> bool:
        """Grant token slots up to each given length, in every group, to all of them or to none (law 9).

        It succeeds whenever free + cached pages cover the need; fragmentation never refuses.
        Shared tails are copied on the way (law 3). Each sequence stands in ``wants`` once.
        Cost: O(sequences × groups), O(extents taken), and O(pages) for what is reclaimed.
        """
        size, held = self.page_tokens, self._length_at
        growths = [max(0, -(-length // size) + -held[sequence.slot] // size) for sequence, length in wants]
        tails = {one.id: self._shared_tails(one) for one, _ in wants if self._barrier_at[one.slot]}
        needs = [sum(growths)] * len(self.groups)
        for shared in tails.values():
            needs = [need + (page >= 0) for need, page in zip(needs, shared, strict=True)]
        if not self.reclaimer.make_room(needs, self.planning):
            self.counters.refusals += 1
            return False
        self.counters.granted += needs[0]
        if not tails and set(growths) == {1}:
            self._extend_by_one(wants)
            return True
        for (sequence, length), growth in zip(wants, growths, strict=True):
            self._extend(sequence, length, growth, tails.get(sequence.id, self._private))
        return True

    def grantable(self, needs: SequenceOf[int]) -> bool:
        """Whether a reservation of so many pages per group would succeed now. Cost: O(groups)."""
        return self.reclaimer.grantable(needs)

    def truncate(self, sequence: Sequence, tokens: int) -> None:
        """Take back the token slots from ``tokens`` on: a late stop, a rejected draft. Cost: O(extents removed).

        Steps in flight may still write there. What was published of them stays in the prefix tree.

        Raises:
            ValueError: the sequence holds fewer tokens, or ``slide`` released a page that position ``tokens`` sees.
        """
        slot = sequence.slot
        self._check_truncation(slot, tokens)
        for group, table in enumerate(self.tables):
            self._drop(sequence, group, table.drop_tail(slot, pages_for(tokens, self.page_tokens)))
        self.tree.unstand(sequence, tokens // self.page_tokens, self.planning)
        self.length[slot] = tokens
        self.barrier[slot] |= bool(tokens % self.page_tokens)

    def slide(self, sequence: Sequence, position: int) -> None:
        """Release pages that no query at ``position`` or later sees, in groups with a window. Cost: O(extents).

        ``publish`` first: a released page can no longer be published.
        """
        for group, table in enumerate(self.tables):
            window = self.config.groups[group].window
            if window is not None:
                hidden = self._hidden_pages(position, window)
                self._drop(sequence, group, table.drop_head(sequence.slot, hidden))

    # ---- publishing

    def publish(self, sequence: Sequence, computed: int) -> None:
        """Seal the full pages among the first ``computed`` tokens: the prefix tree shares them from now on.

        Steps that are done computed them, from known tokens. Where the tree holds an identical page already,
        the sequence takes that one and frees its own.
        Cost: O(pages) amortised, O(log children) per new branch.
        """
        if not (self.config.prefix_caching and sequence.exact and sequence.publishing):
            return
        full = computed // self.page_tokens
        tokens = sequence.tokens.view()
        while sequence.sealed < full:
            known = self.tree.child(sequence.namespace, sequence.tip, tokens, sequence.sealed)
            if known is None:
                self._seal(sequence, tokens, sequence.namespace.alike(sequence.sealed, full))
            else:
                self._adopt(sequence, known, tokens, full)

    # ---- steps

    def compact(self) -> None:
        """Empty sparse superblocks, within a budget, just before a step is begun. Cost: as Compactor.compact."""
        if self.compactor is not None:
            self.compactor.compact(self.compactor.knobs.budget)

    def begin_step(self, slots: Slots, starts: I32, counts: I32) -> tuple[PageTable, ...]:
        """Fix what the step being planned reads; from now on those pages outlive their release (law 5).

        Each slot's sequence writes positions starts … starts + counts - 1, all of them granted.

        Returns:
            Page tables, one per group. Cost: O(rows × extents) array work.
        """
        tables = tuple(table.gather(slots) for table in self.tables)
        self.flights[self.planning] = StepReads(self.holder[slots], starts, counts, tables)
        self._last_read[slots] = self.planning
        self.planning += 1
        return tables

    def take_moves(self) -> tuple[Move, ...]:
        """The moves that the step being planned must make first, in order. Cost: O(moves)."""
        moves = tuple(self.moves)
        self.moves.clear()
        if self.tiers is not None:
            self.tiers.planned()
        return moves

    def check(self) -> None:
        """Recompute every law from raw tables and objects. Cost: O(capacity + pages held).

        Raises:
            HeapCorruption: naming the laws that are broken, and where.
        """
        broken = violations(self)
        if broken:
            raise HeapCorruption("; ".join(broken))

    # ---- steps of the operations above

    def _check_truncation(self, slot: int, tokens: int) -> None:
        if not 0 <= tokens <= self.length[slot]:
            raise ValueError(f"truncate to {tokens} tokens: the sequence holds {self.length[slot]}")
        for spec, table in zip(self.config.groups, self.tables, strict=True):
            if spec.window is not None and self._hidden_pages(tokens, spec.window) < table.skipped[slot]:
                raise ValueError(f"truncate to {tokens} tokens: group {spec.name} has released pages of that window")

    def _drop_copies_to(self, columns: list[I32]) -> None:
        """Who was given a copy there has gone since: what is loaded there may be made before the step's copies."""
        if any(move.kind == "copy" for move in self.moves):
            given = [set(pages.tolist()) for pages in columns]
            self.moves[:] = [one for one in self.moves if one.kind != "copy" or one.dst not in given[one.group]]

    @staticmethod
    def _locate(partial: tuple[Node, int], matched: Node, into: int) -> tuple[Node, int]:
        """Where the partly matching page is now that the matched edge was split after ``into`` pages."""
        node, page = partial
        return (node, page - into) if node is matched and into else (node, page)

    def _share(self, sequence: Sequence, group: int, pages: I32, total: int) -> None:
        window = self.config.groups[group].window
        hidden = 0 if window is None else min(self._hidden_pages(total, window), len(pages))
        extents = runs_of(pages[hidden:])
        self.groups[group].retain(extents, taken_by(sequence.id, Place.SHARE))
        self.tables[group].start_at(sequence.slot, hidden)
        self.tables[group].append(sequence.slot, extents)

    def _hidden_pages(self, position: int, window: int) -> int:
        """Leading pages that a query at ``position`` does not see: all their tokens are ≤ position - window."""
        return max(0, (position - window + 1) // self.page_tokens)

    def _shared_tails(self, sequence: Sequence) -> list[int]:
        """Per group the page that the next token would be written to, if that needs a copy first; -1 otherwise."""
        if self._length_at[sequence.slot] % self.page_tokens == 0:
            return self._private
        last = [table.last_page(sequence.slot) for table in self.tables]
        return [
            page if pages.count[page] > 1 or pages.sealed[page] else -1
            for page, pages in zip(last, self.groups, strict=True)
        ]

    def _extend(self, sequence: Sequence, length: int, growth: int, shared: list[int]) -> None:
        slot = sequence.slot
        for group, table in enumerate(self.tables):
            if shared[group] >= 0:
                self._copy_tail(sequence, group, shared[group])
            if growth:
                expect = self._expected(sequence, table)
                table.append(slot, self._allocate(sequence, group, growth, expect, Place.RESERVE))
        self._length_at[slot] = max(self._length_at[slot], length)
        self._barrier_at[slot] = False

    def _extend_by_one(self, wants: SequenceOf[tuple[Sequence, int]]) -> None:
        """Grant a page to each, none of which copies its tail, as decoding does: the neighbour if that is free."""
        for group, table in enumerate(self.tables):
            allocate_one = self.groups[group].allocate_one
            for sequence, _ in wants:
                last = table.last_page(sequence.slot)
                by = taken_by(sequence.id, Place.RESERVE)
                if last >= 0 and allocate_one(last + 1, lossy=not sequence.exact, by=by):
                    table.lengthen(sequence.slot)
                else:
                    self._start_run(sequence, group, table)
        for sequence, length in wants:
            self._length_at[sequence.slot] = length

    def _start_run(self, sequence: Sequence, group: int, table: BlockTables) -> None:
        """Grant one page where a run begins; ``make_room`` saw to it that there is one."""
        expect, pages = self._expected(sequence, table), self.groups[group]
        self.reclaimer.make_runs(group, 1, -1, expect, self.planning)
        page = pages.space.start(expect)
        pages.allocate_one(page, lossy=not sequence.exact, by=taken_by(sequence.id, Place.RESERVE))
        table.append(sequence.slot, [(page, 1)])

    def _expected(self, sequence: Sequence, table: BlockTables) -> int:
        """How many pages a new run of the sequence may come to hold: what is known, else as many as it has."""
        skipped, held = table.span(sequence.slot)
        coming = -(-sequence.tokens.size // self.page_tokens) - skipped - held
        return max(coming, min(held, self._tail))

    def _allocate(self, sequence: Sequence, group: int, pages: int, expect: int, place: Place) -> list[Extent]:
        after = self.tables[group].last_page(sequence.slot)
        self.reclaimer.make_runs(group, pages, after, expect, self.planning)
        by = taken_by(sequence.id, place)
        return self.groups[group].allocate(pages, after, expect, lossy=not sequence.exact, by=by)

    def _copy_tail(self, sequence: Sequence, group: int, source: int) -> None:
        """Write barrier: replace the shared tail by a copy; the original is held until the copy is made."""
        slot, table = sequence.slot, self.tables[group]
        kept = int(self.length[slot])
        table.drop_tail(slot, kept // self.page_tokens)
        table.append(slot, self._allocate(sequence, group, 1, 0, Place.COPY))
        self.moves.append(Move("copy", group, source, table.last_page(slot), kept % self.page_tokens))
        self.hold(self.planning, group, [(source, 1)])
        self.counters.copies += 1

    def _seal(self, sequence: Sequence, tokens: I32, full: int) -> None:
        low, size = sequence.sealed, self.page_tokens
        extents = [table.slice(sequence.slot, low, full) for table in self.tables]
        columns = tuple(page_numbers(runs) for runs in extents)
        marks = None if sequence.marks is None else sequence.marks[low:full]
        new, door = tokens[low * size : full * size], sequence.namespace.door(low)
        tip = self.tree.extend(sequence.tip, new, columns, self.planning, marks, door)
        for pages, runs in zip(self.groups, extents, strict=True):
            pages.seal(runs, tip.generation, self.planning)
        self.tree.stand(sequence, tip, full, self.planning)
        self.counters.sealed += full - low

    def _adopt(self, sequence: Sequence, known: Node, tokens: I32, full: int) -> None:
        low = sequence.sealed
        count = self.tree.common_pages(sequence.namespace, known, tokens, low, full * self.page_tokens)
        node = self.tree.settle(known, count, self.planning)
        own = page_numbers(self.tables[0].slice(sequence.slot, low, low + count))
        self.counters.deduplicated += int(np.count_nonzero(own != node.pages[0].view()))  # a fork holds the very same
        for group, table in enumerate(self.tables):
            theirs = node.pages[group].view()
            self.groups[group].retain(runs_of(theirs), taken_by(sequence.id, Place.ADOPT))
            self._drop(sequence, group, table.replace(sequence.slot, low, theirs))
        self.tree.stand(sequence, node, low + count, self.planning)
