"""A world around a heap: streams that do to it what a scheduler may do, with shadow memory behind.

An operation is ``(name, a, b, c)``: plain numbers, reduced to what is possible when it is applied. The same
list of operations therefore does the same to a second heap (law 10), and both hypothesis and a seeded walk
can make them up.
"""

from collections import Counter
from operator import attrgetter

import numpy as np

from infergc.heap.compactor import Compaction
from infergc.heap.heap import Heap
from infergc.heap.moves import Move
from infergc.heap.nodes import Namespace
from infergc.heap.objects import BeamGroup, Sequence, TokenLog
from laws.below import Below
from laws.kept import Kept
from laws.oracle import LawBroken, common, dump, grants, in_use, longest_known
from laws.shadow import Prefixes, Shadow, as_made, pages_of, tables_of
from laws.shapes import Shape
from laws.streams import Row, Step, Stream
from laws.wholes import Wholes

_start_of, _count_of = attrgetter("start"), attrgetter("count")
Operation = tuple[str, int, int, int]
# Compaction wherever a superblock is gained.
ALWAYS = Compaction(sparse=1.0, fragmentation=0.0, spare=0.0, rest=0, handling=1)


class World(Wholes, Kept, Below):
    """Drives a heap by the rules that its callers keep, and compares what storage holds with what it should."""

    heap_class: type[Heap] = Heap

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.heap = self.heap_class(shape.config(), shape.policy(), ALWAYS)
        super().__init__()
        Kept.__init__(self)
        Below.__init__(self)
        self.shadow = Shadow(self.heap)
        self.prefixes = Prefixes()
        self.streams: list[Stream] = []
        self.steps: list[Step] = []
        self.moves: list[Move] = []
        self.seen: Counter[str] = Counter()  # what happened, by name
        self.done = 0  # operations that had something to do

    def apply(self, operation: Operation) -> None:
        """Do one operation; one that has nothing to act on does nothing."""
        name, a, b, c = operation
        did = getattr(self, "do_" + name)(a, b, c)
        self.done += did is not False
        self.seen[name] += did is not False

    def inspect(self) -> None:
        """Check every law; poison what is free."""
        self.heap.check()
        self.inspect_tiers()
        self.shadow.poison()

    # ---- operations: each returns False if there was nothing to do

    def do_open(self, a: int, b: int, c: int) -> bool | None:
        """Open a stream whose prompt is one stem up to a cut and another from there on."""
        cut, length = b % self.shape.longest, 1 + c % (self.shape.longest - 1)
        tokens = [self._stem(a // 16, at) if at < cut else self._stem(a // 64, at) for at in range(length)]
        namespace = self.namespace(a, tokens)
        sequence = self.heap.open(f"s{self.heap._next_id}", TokenLog(np.array(tokens, np.int32)), namespace)
        if sequence is None:
            self._expect(self._slots_taken() == self.shape.slots, "law 9: open found no slot, but there is one")
            return False
        self.streams.append(Stream(sequence, tokens))
        if a % 4:
            self._share(self.streams[-1], b)
        self.heap.asked(sequence, len(tokens))
        return None

    def do_share(self, a: int, b: int, c: int) -> bool | None:
        fresh = [stream for stream in self.streams if not stream.started]
        if not fresh:
            return False
        self._share(fresh[a % len(fresh)], b)
        return None

    def do_reserve(self, a: int, b: int, c: int) -> bool | None:
        """Reserve for several streams at once, ahead of what is scheduled.

        With tiers the step follows that makes the copies: executors make them after what goes between device and
        host, so that nobody gives a page back to which a copy waits to be made.
        """
        if self.shape.host and len(self.steps) == self.shape.depth:
            return False
        streams = self._pick(self.streams, a, 3)
        for stream in streams:
            stream.started = True
        length = [stream.scheduled + 1 + (b >> at) % (4 * self.shape.page_tokens) for at, stream in enumerate(streams)]
        self._reserve([(stream.sequence, n) for stream, n in zip(streams, length, strict=True)])
        if self.shape.host and any(move.kind == "copy" for move in self.heap.moves):
            self._launch([], c)
        return bool(streams)

    def do_step(self, a: int, b: int, c: int) -> bool | None:
        """Plan and launch a step over some streams that have tokens to compute."""
        ready = [stream for stream in self.streams if len(stream.tokens) > stream.scheduled]
        if not ready or len(self.steps) == self.shape.depth:
            return False
        most = 1 + b % (5 * self.shape.page_tokens)
        rows = [self._row(stream, most) for stream in self._pick(ready, a, 4)]
        while rows and not self._grow(rows):
            rows.pop()
        if not rows:
            return False
        self._launch(rows, c)
        return None

    def do_complete(self, a: int, b: int, c: int) -> bool | None:
        if not self.steps:
            return False
        step = self.steps.pop(0)
        for at, row in enumerate(step.rows):
            self.shadow.verify(step.tables, at, row.stream.expected(row.valid), "law 5")
        self.heap.complete(step.number)
        for row in step.rows:
            row.stream.computed = max(row.stream.computed, row.valid)
            if row.sampled:
                row.stream.sequence.tokens.append(row.stream.tokens[row.end])
        return None

    def do_append(self, a: int, b: int, c: int) -> bool | None:
        """A turn more, or tokens that were decided elsewhere."""
        ready = [stream for stream in self.streams if stream.known == len(stream.tokens) < self.shape.longest]
        if not ready:
            return False
        stream = ready[a % len(ready)]
        for at in range(1 + c % min(20, self.shape.longest - stream.known)):
            token = self._stem(b, at)
            stream.tokens.append(token)
            stream.sequence.tokens.append(token)
        return None

    def do_publish(self, a: int, b: int, c: int) -> bool | None:
        if not self.streams:
            return False
        stream = self.streams[a % len(self.streams)]
        self.heap.publish(stream.sequence, stream.computed)
        self._verify(stream, "law 7")
        return None

    def do_slide(self, a: int, b: int, c: int) -> bool | None:
        """Publish, then let go of what is out of every window: in this order, as the heap asks."""
        if self.do_publish(a, b, c) is False:
            return False
        stream = self.streams[a % len(self.streams)]
        stream.slid = stream.computed
        self.heap.slide(stream.sequence, stream.slid)
        self._verify(stream, "law 7")
        return None

    def do_truncate(self, a: int, b: int, c: int) -> bool | None:
        """A late stop or a rejected draft (tokens go too), or a grant given back (tokens stay)."""
        if not self.streams:
            return False
        stream = self.streams[a % len(self.streams)]
        length = int(self.heap.length[stream.sequence.slot])
        if length < stream.slid:
            return False
        keep = stream.slid + b % (length - stream.slid + 1)
        targets = (keep, min(length, stream.computed), min(length, stream.known), length)
        self._truncate(stream, targets[c % 4], reject=bool(c & 4))
        return None

    def do_fork(self, a: int, b: int, c: int) -> bool | None:
        if not self.streams:
            return False
        stream = self.streams[a % len(self.streams)]
        if any(row.stream is stream for step in self.steps for row in step.rows):
            return self._refused_fork(stream)
        self._truncate(stream, stream.computed, reject=False)
        branch = self.heap.fork(stream.sequence, f"s{self.heap._next_id}")
        if branch is None:
            self._expect(self._slots_taken() == self.shape.slots, "law 9: fork found no slot, but there is one")
            return False
        twin = Stream(branch, list(stream.tokens), list(stream.cells), stream.computed, stream.slid)
        twin.started = True
        twin.private = None if stream.private is None else branch.id
        self.streams.append(twin)
        return None

    def do_taint(self, a: int, b: int, c: int) -> bool | None:
        exact = [stream for stream in self.streams if stream.private is None]
        if not exact:
            return False
        stream = exact[a % len(exact)]
        self.heap.taint(stream.sequence)
        stream.private = stream.sequence.id
        return None

    def do_compact(self, a: int, b: int, c: int) -> bool | None:
        """Empty superblocks, within a budget that may be small; the copies are made when the next step begins."""
        compactor, counters = self.heap.compactor, self.heap.counters
        assert compactor is not None
        budget, emptied, moved = 1 << a % 9, counters.compactions, counters.moved
        before = in_use(self.heap)
        spent = compactor.compact(budget)
        self._expect(counters.moved - moved <= spent <= budget, f"{spent} units of {budget} were spent")
        emptied = counters.compactions - emptied
        self.heap.check()
        self._expect(before - in_use(self.heap) == emptied, f"{emptied} superblocks were emptied, but not gained")
        for stream in self.streams:
            self._verify(stream, "law 7")
        self._verify_turns()
        return emptied > 0

    def do_close(self, a: int, b: int, c: int) -> bool | None:
        if not self.streams:
            return False
        stream = self.streams[a % len(self.streams)]
        if b % 4:
            self.heap.publish(stream.sequence, stream.computed)
        if isinstance(stream.whole, BeamGroup):
            self._leave(stream)
        elif stream.whole is not None:
            self._end_turn(stream, replaces=bool(c % 3))
        else:
            self.heap.close(stream.sequence)
            self._ended(stream)
        return None

    # ---- steps of the operations above

    def _stem(self, seed: int, at: int) -> int:
        """A token of one of four endless streams: they agree for long stretches."""
        return (at >> 4 + seed % 4) * (seed % 4) % self.shape.alphabet

    def namespace(self, a: int, tokens: list[int]) -> Namespace:
        """A tenant's. Public is what the tokens begin with of the declared text."""
        declared = [self._stem(1, at) for at in range(self.shape.public)]
        public = common(declared, tokens) // self.shape.page_tokens
        return Namespace("model", str(a // 4 % self.shape.namespaces), public)

    def _pick(self, streams: list[Stream], a: int, most: int) -> list[Stream]:
        count = min(len(streams), 1 + a % most)
        return [streams[(a // most + at) % len(streams)] for at in range(count)]

    def _share(self, stream: Stream, b: int) -> None:
        limit = len(stream.tokens) - (b % 4 > 0)
        known = longest_known(self.heap, stream.sequence.namespace, stream.tokens[:limit])
        total = self.heap.share_prefix(stream.sequence, limit)
        self._expect(total == (known if self._shares(stream) else 0), f"law 7: matched {total} of {known} tokens")
        stream.started = True
        stream.computed = stream.slid = total
        self._write(stream, total)
        self._verify(stream, "law 7")
        self.seen["hit"] += total > 0
        self.seen["part of a page"] += total % self.shape.page_tokens > 0

    def _shares(self, stream: Stream) -> bool:
        return self.shape.prefix_caching and stream.private is None

    def _write(self, stream: Stream, count: int) -> None:
        """Note the prefixes of the next positions of a stream."""
        del stream.keys[stream.scheduled // self.shape.page_tokens :]
        for at in range(stream.scheduled, stream.scheduled + count):
            parent = self.prefixes.before(stream.cells, stream.sequence.namespace, self.shape.page_tokens)
            stream.cells.append(self.prefixes.next(parent, stream.tokens[at], stream.private))
        self.name_pages(stream)

    def _reserve(self, wants: list[tuple[Sequence, int]]) -> bool:
        expected = grants(self.heap, wants)
        before = None if expected else dump(self.heap)
        granted = self.heap.reserve(wants)
        self._expect(granted == expected, f"law 9: reserve says {granted}, the tables say {expected}")
        self._expect(granted or dump(self.heap) == before, "law 9: a refusal changed something")
        for sequence, length in wants if granted else ():
            self._granted(sequence, length)
        self.seen["refusal"] += not granted
        return granted

    def _granted(self, sequence: Sequence, length: int) -> None:
        pages = -(-length // self.shape.page_tokens)
        for table in self.heap.tables:
            held = int(table.skipped[sequence.slot] + table.held[sequence.slot])
            self._expect(held >= pages, f"law 9: {pages} pages were granted, but not in every group")

    def _row(self, stream: Stream, most: int) -> Row:
        stream.started = True
        count = min(most, len(stream.tokens) - stream.scheduled)
        end = stream.scheduled + count
        return Row(stream, stream.scheduled, count, end == len(stream.tokens) < self.shape.longest, end)

    def _grow(self, rows: list[Row]) -> bool:
        """Room for what the rows write, as a scheduler asks for it."""
        slots = np.array([row.stream.sequence.slot for row in rows], np.int32)
        lengths = np.array([row.end for row in rows], np.int32)
        crossing = self.heap.crossing(slots, lengths)
        wants = [(row.stream.sequence, row.end) for row, crosses in zip(rows, crossing, strict=True) if crosses]
        if wants and not self._reserve(wants):
            return False
        self.heap.advance(slots[~crossing], np.maximum(lengths, self.heap.length[slots])[~crossing])
        return True

    def _launch(self, rows: list[Row], c: int) -> None:
        """Begin the step and carry it out."""
        number = self.heap.planning
        if self.shape.host and self.shape.compacts:
            self.do_compact(c, 0, 0)
        slots = np.array([row.stream.sequence.slot for row in rows], np.int32)
        starts, counts = (np.array([part(row) for row in rows], np.int32) for part in (_start_of, _count_of))
        tables = self.heap.begin_step(slots, starts, counts)
        moves = self.heap.take_moves()
        copies = sum(move.kind == "copy" and move.tokens < self.shape.page_tokens for move in moves)  # not compaction's
        step = Step(number, rows, tables)
        self._run(step, moves)
        for at, row in enumerate(rows):
            if row.sampled:
                row.stream.tokens.append((c >> at) % self.shape.alphabet)
        self.moves += moves
        self.steps.append(step)
        self.seen["copy"] += copies

    def _run(self, step: Step, moves: tuple[Move, ...]) -> None:
        """Carry the step out on the shadow, at once: moves, then writes, then everything is read."""
        for move in as_made(moves):
            self.shadow.move(move)
        self._write_rows(step)
        for at, row in enumerate(step.rows):
            self._verify_row(step, at, row, self._law_of(moves))

    def _law_of(self, moves: tuple[Move, ...]) -> str:
        """Which law has failed where a step reads something else than it should."""
        if any(move.kind == "copy" and move.tokens < self.shape.page_tokens for move in moves):
            return "law 3"
        return "law 5" if any(move.kind == "copy" for move in moves) else "law 7"  # compaction's are of whole pages

    def _write_rows(self, step: Step) -> None:
        for at, row in enumerate(step.rows):
            self._write(row.stream, row.count)
            cells = row.stream.expected(row.end)[row.start :]
            self._unread_by_others(step, at)
            self.shadow.write(step.tables, at, row.start, cells)

    def _unread_by_others(self, step: Step, at: int) -> None:
        """No page that the row may write to is in the table of another stream's step in flight."""
        for group, table in enumerate(step.tables):
            low = step.rows[at].start // self.shape.page_tokens - int(table.skipped[at])
            written = set(pages_of(table, at)[low:].tolist())
            for other in (*self.steps, step):
                for r, row in enumerate(other.rows):
                    if row.stream is not step.rows[at].stream:
                        clash = written & set(pages_of(other.tables[group], r).tolist())
                        self._expect(not clash, f"law 5: pages {clash} are written while step {other.number} reads")

    def _verify_row(self, step: Step, at: int, row: Row, law: str) -> None:
        for spec, table in zip(self.shape.groups, step.tables, strict=True):
            seen = 0 if spec.window is None else max(0, row.start - spec.window + 1)
            self._expect(int(table.skipped[at]) * self.shape.page_tokens <= seen, "law 4: a page in reach is gone")
        self.shadow.verify(step.tables, at, row.stream.expected(row.end), law)

    def _verify(self, stream: Stream, law: str) -> None:
        """The stream's own tables hold its own prefix, once the moves that wait for the next step are made."""
        law = law if stream.private is None else "law 8"
        tables = tables_of(self.heap, stream.sequence)
        self.shadow.after(self.heap.moves).verify(tables, 0, stream.expected(stream.scheduled), law)

    def _truncate(self, stream: Stream, tokens: int, *, reject: bool) -> None:
        self.heap.truncate(stream.sequence, tokens)
        for row in (row for step in self.steps for row in step.rows if row.stream is stream):
            row.cut(tokens, sample_lives=row.end < tokens if reject else row.end <= tokens)
        if reject:
            stream.sequence.tokens.truncate(tokens)
            del stream.tokens[tokens:]
        else:
            del stream.tokens[max(stream.known, tokens + 1) :]
        self.seen["late stop"] += tokens < stream.scheduled
        del stream.cells[tokens:]
        stream.computed = min(stream.computed, tokens)

    def _refused_fork(self, stream: Stream) -> bool:
        before = dump(self.heap)
        try:
            self.heap.fork(stream.sequence, "refused")
        except ValueError:
            self._expect(dump(self.heap) == before, "law 9: a refused fork changed something")
            return True
        raise LawBroken("law 3: fork of a sequence that a step in flight writes to")

    def _slots_taken(self) -> int:
        return sum(sequence.slot >= 0 for sequence in self.heap.sequences.values())
