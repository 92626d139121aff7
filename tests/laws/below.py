"""Operations on what lies below the device: pages come back from there, requests that give way have theirs kept.

What lies in each slot is compared with what its key stands for after every operation; which pages a key stands for is
known from the streams, not from the heap.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from infergc.heap import keys
from infergc.heap.disk import DiskTier
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from laws.file_store import FileStore
from laws.shadow import Cells, Prefixes, Shadow
from laws.streams import Row, Step, Stream

if TYPE_CHECKING:
    from laws.shapes import Shape


@dataclass(frozen=True, eq=False)
class Away:
    """A request that gave way, with what was computed of it and what is kept for it."""

    namespace: Namespace
    tokens: list[int]
    keys: list[bytes]


class Below:
    """The part of a world that uses the tiers below the device.

    Attributes:
        cells: what a page holds, by its key.
        away: requests whose pages are kept.
        owed: claims that came with what was read.
        files: the disk.
    """

    shape: "Shape"
    heap: Heap
    prefixes: Prefixes
    shadow: Shadow
    streams: list[Stream]
    steps: list[Step]
    seen: Counter[str]

    def __init__(self) -> None:
        self.cells: dict[bytes, Cells] = {}
        self.away: list[Away] = []
        self.owed: list[list[bytes]] = []
        self.files = FileStore()
        self.texts: list[tuple[Namespace, list[int]]] = []  # that may be found on disk

    # ---- laws

    def name_pages(self, stream: Stream) -> None:
        """Note what the keys of a stream's pages stand for."""
        if not self.shape.host or stream.private is not None:
            return
        size = self.shape.page_tokens
        for page in range(len(stream.keys), stream.scheduled // size):
            namespace = stream.sequence.namespace
            before = keys.behind(stream.keys[-1], namespace.door(page)) if page else keys.root_key(namespace)
            low, high = page * size, (page + 1) * size
            key = keys.next_key(before, np.array(stream.tokens[low:high], np.int32).tobytes())
            cells = np.array(stream.cells[low:high], np.int64)
            known = self.cells.setdefault(key, cells)
            self._expect(np.array_equal(known, cells), "law 7: two prefixes have one key")
            stream.keys.append(key)
            self.texts = [*self.texts[-150:], (stream.sequence.namespace, stream.tokens[:high])]

    def inspect_tiers(self) -> None:
        """Every slot holds what its key stands for, and what is kept for somebody is in some tier."""
        if self.heap.tiers is None:
            return
        host, later = self.heap.tiers.host, self.later()
        for key, slot in (*host.cached.items(), *host.held.items()):
            self._expect(
                later.holds(slot, self.cells[key]), f"law 7: slot {slot} does not hold what its key stands for"
            )
        kept = {key for away in self.away for key in away.keys} - self.files.unread
        lost = kept - self._on_device() - {*host.held, *host.arriving} if kept else ()
        self._expect(not lost, f"law 9: {len(lost)} pages that are kept for requests are gone")
        self._expect(host.claims == self._claims(), "law 9: claims of the host tier are not those of who claims")
        self._inspect_unsaved()

    def _claims(self) -> Counter[bytes]:
        """Claims, counted over who has them: requests, jobs of the disk, and the step being planned."""
        assert self.heap.tiers is not None
        claims = Counter(key for claimed in (*(away.keys for away in self.away), *self.owed) for key in claimed)
        claims.update(self.heap.tiers._read)
        if self._disk is not None:
            claims.update(self._disk.writing)
            claims.update(self._disk.reading.keys())
        return claims

    def _inspect_unsaved(self) -> None:
        """Pages that the disk tier was not given yet are known to it."""
        unsaved = self.heap.tree.unsaved
        for node in self.heap.tree.nodes() if self._disk is not None else ():
            known = node.saved == node.length or unsaved.get(node.id) is node
            self._expect(known and node.saved <= node.length, f"law 1: pages of node {node.id} are never written")

    def later(self) -> Shadow:
        """Storage once the moves that wait are made."""
        return self.shadow.after(self.heap.moves)

    # ---- operations: each returns False if there was nothing to do

    def do_restore(self, a: int, b: int, c: int) -> bool | None:
        """A request starts with what tree and host have of its prompt; now and then it does without the host."""
        cut, length = b % self.shape.longest, 2 + c % (self.shape.longest - 2)
        tokens = [self._stem(a // 16, at) if at < cut else self._stem(a // 64, at) for at in range(length)]
        return self._start(self.namespace(a, tokens), tokens, a, b) is not None

    def do_give_way(self, a: int, b: int, c: int) -> bool | None:
        """A request is preempted, and its pages are kept if there is room."""
        alone = [stream for stream in self.streams if stream.whole is None and stream.private is None]
        if not alone or len(self.away) > 4:
            return False
        stream = alone[a % len(alone)]
        sequence = stream.sequence
        self._truncate(stream, stream.computed, reject=False)
        self.heap.publish(sequence, stream.computed)
        self.name_pages(stream)
        wanted, claims = stream.keys[: sequence.sealed], self._host.claims
        fits = len(claims) + len(set(wanted) - claims.keys()) <= self.shape.host
        kept = self.heap.claim(sequence)
        self._expect(kept == (wanted if wanted and fits else None), f"law 9: {kept} were kept of {wanted}, {fits=}")
        self.seen["no room to keep"] += not fits
        if kept is not None:
            self.away.append(Away(sequence.namespace, stream.tokens[: stream.known], kept))
        self.heap.close(sequence)
        self._ended(stream)
        return kept is not None

    def do_come_back(self, a: int, b: int, c: int) -> bool | None:
        """A request that gave way goes on, with all that was kept for it."""
        if not self.away:
            return False
        away = self.away[a % len(self.away)]
        started = self._start(away.namespace, away.tokens, 1, b)
        if started is None:
            return False
        found, _ = started
        size = self.shape.page_tokens
        whole = min(len(away.keys), (len(away.tokens) - 1) // size)
        missing = {*away.keys[found:whole]} - self.files.unread
        self._expect(found >= whole or len(missing) < whole - found, f"law 9: {found} pages found, {whole} were kept")
        self.away.remove(away)
        self.heap.unclaim(away.keys)
        return None

    def do_forget(self, a: int, b: int, c: int) -> bool | None:
        """A request that gave way is aborted, or one that waited for a read."""
        if self.owed:
            self.heap.unclaim(self.owed.pop(a % len(self.owed)))
        elif self.away:
            self.heap.unclaim(self.away.pop(a % len(self.away)).keys)
        else:
            return False
        return None

    def do_refill(self, a: int, b: int, c: int) -> bool | None:
        """Pages are reclaimed ahead of need, between two steps."""
        reclaimer = self.heap.reclaimer
        reclaimer.target_free = 0.1 + a % 4 / 5
        return reclaimer.refill(1 + b % 8, self.heap.planning) > 0

    def do_copy_step(self, a: int, b: int, c: int) -> bool | None:
        """A step that computes nothing, for moves that wait."""
        disk = self._disk
        waits = bool(self.heap.moves) or (disk is not None and disk.waits_for(self.heap.planning))
        if not waits or len(self.steps) == self.shape.depth:
            return False
        self._launch([], c)
        return None

    def do_save(self, a: int, b: int, c: int) -> bool | None:
        tiers = self.heap.tiers
        return tiers is not None and tiers.save(1 + a % 12, self.heap.planning) > 0

    def do_seek(self, a: int, b: int, c: int) -> bool | None:
        """What the disk has of a stream is read; a request waits for it, or has gone by then."""
        disk = self._disk
        if disk is None or not self.texts:
            return False
        namespace, tokens = self.texts[a % len(self.texts)]
        found = disk.find(self.heap.stream(namespace, np.array(tokens, np.int32))[1])
        number = disk.read(found.names, self.heap.touching) if found.names else None
        self.seen["read"] += number is not None
        return number is not None

    def do_hand_over(self, a: int, b: int, c: int) -> bool | None:
        """Jobs whose steps have landed go to the disk."""
        jobs = [] if self._disk is None else self._disk.jobs(self.heap.completed)
        self.files.jobs += jobs
        while a % 2 and self.files.jobs:  # at once
            self.do_disk(0, b, c)
            self.do_news(0, 0, c)
        return bool(jobs)

    def do_disk(self, a: int, b: int, c: int) -> bool | None:
        """The disk does one of its jobs, and fails at some pages."""
        if not self.files.jobs:
            return False
        job = self.files.jobs.pop(a % len(self.files.jobs))
        if job.number < 0:
            for name, slot in job.pages:
                right = self.shadow.holds(slot, self.cells[name.key])
                self._expect(right, f"law 5: slot {slot} was overwritten before it was written to disk")
        self.files.do(job, self.shadow, {at for at in range(len(job.pages)) if (b >> at % 16) & 7 == 7})
        return None

    def do_news(self, a: int, b: int, c: int) -> bool | None:
        """What the disk did is told, in whatever order."""
        if not self.files.news:
            return False
        assert self._disk is not None
        claimed = self.files.tell(a % len(self.files.news), self._disk)
        if claimed and c % 2:
            self.owed.append(claimed)
        elif claimed:
            self.heap.unclaim(claimed)
        return None

    def do_lose(self, a: int, b: int, c: int) -> bool | None:
        """The disk gives pages up."""
        return self.files.lose(a % 3, b) > 0

    # ---- steps of the operations above

    @property
    def _host(self) -> Any:
        assert self.heap.tiers is not None
        return self.heap.tiers.host

    @property
    def _disk(self) -> DiskTier | None:
        return None if self.heap.tiers is None else self.heap.tiers.disk

    def _on_device(self) -> set[bytes]:
        """Keys of the pages that the tree has, from its tokens."""
        known = {root.id: keys.root_key(namespace) for namespace, root in self.heap.tree.roots.items()}
        found: set[bytes] = set()
        for node in self.heap.tree.nodes():
            before = keys.behind(known[node.parent.id], node.door)
            chain = keys.keys_of(before, node.tokens.view(), self.shape.page_tokens)
            known[node.id] = chain[-1]
            found.update(chain)
        return found

    def _start(self, namespace: Namespace, tokens: list[int], a: int, b: int) -> tuple[int, Stream] | None:
        """Open a stream with what tree and host have of it; returns how many pages they had."""
        sequence = self.heap.open(f"s{self.heap._next_id}", TokenLog(np.array(tokens, np.int32)), namespace)
        if sequence is None:
            return None
        stream = Stream(sequence, list(tokens))
        size, limit = self.shape.page_tokens, len(tokens) - 1
        pages, names = self.heap.below(namespace, np.array(tokens[:limit], np.int32))
        total = self.heap.share_prefix(sequence, limit, whole_pages=True)
        self._expect(total == pages * size, f"law 7: {total} tokens were shared, {pages} pages matched")
        if names and a % 8:
            total = self._restored(stream, names, pages, 1 + b % 5)
        self.streams.append(stream)
        stream.started = True
        stream.computed = stream.slid = total
        self._write(stream, total)
        self._verify(stream, "law 7")
        return pages + len(names), stream

    def _restored(self, stream: Stream, names: Sequence[Any], pages: int, most: int) -> int:
        size = self.shape.page_tokens
        total = self.heap.restore(stream.sequence, names, most)
        fits = pages * size <= total <= (pages + len(names)) * size and total % size == 0
        self._expect(fits, f"law 9: {total} tokens were restored, of {pages} pages and {len(names)}")
        self.seen["restored"] += total > pages * size
        self.seen["restored in part"] += total < (pages + len(names)) * size
        return total

    # ---- the other parts of a world

    def _stem(self, seed: int, at: int) -> int:
        raise NotImplementedError

    def _write(self, stream: Stream, count: int) -> None:
        raise NotImplementedError

    def _verify(self, stream: Stream, law: str) -> None:
        raise NotImplementedError

    def _truncate(self, stream: Stream, tokens: int, *, reject: bool) -> None:
        raise NotImplementedError

    def _ended(self, stream: Stream) -> None:
        raise NotImplementedError

    def _launch(self, rows: list[Row], c: int) -> None:
        raise NotImplementedError

    @staticmethod
    def _expect(condition: bool, message: str) -> None:
        """See ``Wholes``, which stands before this in a world."""
        raise NotImplementedError
