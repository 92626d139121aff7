"""What memory management costs: the heap's operations on an aged pool, and a plain free list beside it.

The pool is aged before anything is measured: sequences of log-normal lengths grow side by side until no page is
left, a random half of them goes, and so again; at last half of the sequences stay. What is free then lies in pieces
between what is held. Clocks and chance are this file's business, not the heap's.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from infergc.heap.groups import GroupSpec, pages_for
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.heap.objects import Sequence, TokenLog
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.lru import Lru

PAGE_TOKENS = 16
LEAST_PAGES, MOST_PAGES = 256, 10_000_000  # all operations find room; booking takes no more than a few GiB
OPERATIONS = ("allocate", "extend", "publish", "share", "free", "free cached", "evict")
_BATCH = 16  # sequences of one length that are measured together
_GROWING = 64  # sequences that grow by a page in one reservation
_PAGES = 8  # such reservations
_MEDIAN, _SPREAD, _CHUNK = 1000, 1.1, 512  # tokens of an aging sequence, log-normal; granted in such pieces
_VOCABULARY = 8000
_FILLER = 256  # pages of a sequence that only keeps pages from others

Figures = dict[str, float]  # operation → nanoseconds a token


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one length in one pool, in nanoseconds a token."""

    pages: int
    tokens: int
    heap: Figures
    free_list: Figures


def most_tokens(pages: int) -> int:
    """The longest sequence that can be measured in a pool: an eighth of it, so that two fit while it is aged."""
    return pages * PAGE_TOKENS // 8


def run(pools: list[int], lengths: list[int], rounds: int, seed: int) -> Iterator[Row]:
    """Measure every length in every pool; medians over the rounds, after one that warms up."""
    for pages in pools:
        heap, plain = HeapBench(pages, seed), FreeListBench(pages, seed)
        for tokens in lengths:
            ours = [heap.measure(tokens) for _ in range(1 + rounds)][1:]
            theirs = [plain.measure(tokens) for _ in range(1 + rounds)][1:]
            yield Row(pages, tokens, medians(ours), medians(theirs))


def medians(rounds: list[Figures]) -> Figures:
    """The median of each operation."""
    return {name: median(each[name] for each in rounds) for name in rounds[0]}


class HeapBench:
    """One heap with an aged pool. ``measure`` leaves it as it was."""

    def __init__(self, pages: int, seed: int) -> None:
        config = HeapConfig((GroupSpec("all", 1, None, pages),), PAGE_TOKENS, pages // 16 + 512)
        self.heap = Heap(config, Lru())
        self._rng = np.random.default_rng(seed)
        self._namespace = Namespace("bench")
        self._age()

    def measure(self, tokens: int) -> Figures:
        """One round of every operation at this length, in nanoseconds a token."""
        count = _count(self._free // 2, tokens, _BATCH)
        logs = [self._tokens(tokens) for _ in range(count)]
        total = count * tokens
        figures: Figures = {}
        with _timing():
            figures["allocate"] = _each(total, lambda: self._allocate(logs))
            figures["free"] = _each(total, self._close)
            figures["extend"] = self._extend(tokens)
            self._allocate(logs)
            figures["publish"] = _each(total, self._publish)
            figures["free cached"] = _each(total, self._close)
            longer = [TokenLog(np.append(log.view(), np.int32(0))) for log in logs]
            figures["share"] = _each(total, lambda: self._share(longer))
            self._close()
            figures["evict"] = self._evict(tokens, count)
        self._forget()
        return {name: figures[name] for name in OPERATIONS}

    @property
    def _free(self) -> int:
        return self.heap.groups[0].space.free

    def _age(self) -> None:
        held: list[Sequence] = []
        for _ in range(3):
            self._fill(held)
            for at in sorted(self._rng.permutation(len(held))[: len(held) // 2].tolist(), reverse=True):
                self.heap.close(held.pop(at))
        self._measured: list[Sequence] = []

    def _fill(self, held: list[Sequence]) -> None:
        """Sequences grow side by side, piece by piece, as prompts computed in turn do, until nothing is free."""
        growing: list[tuple[Sequence, int, int]] = []  # sequence, tokens granted, tokens at last
        while True:
            while len(growing) < 8:
                length = int(np.clip(self._rng.lognormal(np.log(_MEDIAN), _SPREAD), PAGE_TOKENS, self._longest))
                growing.append((self._open(TokenLog(np.zeros(length, np.int32))), 0, length))
            sequence, granted, length = growing.pop(0)
            granted = min(granted + _CHUNK, length)
            if not self.heap.reserve([(sequence, granted)]):
                break
            if granted < length:
                growing.append((sequence, granted, length))
            else:
                held.append(sequence)
        for one in (sequence, *(each[0] for each in growing)):
            self.heap.close(one)

    @property
    def _longest(self) -> int:
        return most_tokens(self.heap.groups[0].spec.capacity)

    def _tokens(self, tokens: int) -> TokenLog:
        return TokenLog(self._rng.integers(0, _VOCABULARY, tokens).astype(np.int32))

    def _open(self, log: TokenLog) -> Sequence:
        sequence = self.heap.open("bench", log, self._namespace)
        if sequence is None:
            raise RuntimeError("the benchmark opened more sequences than its heap has slots")
        return sequence

    def _allocate(self, logs: list[TokenLog]) -> None:
        heap, measured = self.heap, self._measured
        for log in logs:
            sequence = self._open(log)
            granted = heap.reserve([(sequence, log.size)])
            assert granted
            measured.append(sequence)

    def _publish(self) -> None:
        for sequence in self._measured:
            self.heap.publish(sequence, sequence.tokens.size)

    def _share(self, logs: list[TokenLog]) -> None:
        for log in logs:
            sequence = self._open(log)
            hit = self.heap.share_prefix(sequence, log.size - 1)
            assert hit >= log.size - PAGE_TOKENS
            self._measured.append(sequence)

    def _close(self) -> None:
        for sequence in self._measured:
            self.heap.close(sequence)
        self._measured.clear()

    def _extend(self, tokens: int) -> float:
        """Every sequence takes its next page, all in one reservation, and so on: a new run, then its neighbours."""
        rows = _count(self._free // 2, tokens + _PAGES * PAGE_TOKENS, _GROWING)
        self._allocate([self._tokens(tokens) for _ in range(rows)])
        steps = [
            [(sequence, tokens + page * PAGE_TOKENS) for sequence in self._measured] for page in range(1, _PAGES + 1)
        ]
        spent = _each(rows * _PAGES * PAGE_TOKENS, lambda: [self.heap.reserve(wants) for wants in steps])
        self._close()
        return spent

    def _evict(self, tokens: int, count: int) -> float:
        """Allocate where every page that is not held is cached."""
        most = min(self._free // pages_for(tokens, PAGE_TOKENS), 16 * _BATCH)
        self._allocate([self._tokens(tokens) for _ in range(most)])
        self._publish()
        fillers = self._take(self._free)  # before these are only cached: a filler would have them reclaimed for a run
        self._close()
        most = self.heap.groups[0].cached // pages_for(tokens, PAGE_TOKENS)
        self._allocate([self._tokens(tokens) for _ in range(most // 4)])  # until reclaim runs as it will go on
        logs = [self._tokens(tokens) for _ in range(max(1, min(count, most // 2)))]
        spent = _each(len(logs) * tokens, lambda: self._allocate(logs))
        self._measured += fillers
        self._close()
        return spent

    def _forget(self) -> None:
        """Evict what the round left in the cache."""
        self._measured += self._take(self.heap.groups[0].grantable)
        self._close()

    def _take(self, pages: int) -> list[Sequence]:
        """Hold so many pages, by sequences of a usual length: a table is as wide as its longest row."""
        fillers = []
        for low in range(0, pages, _FILLER):
            fillers.append(self._open(TokenLog(np.zeros(0, np.int32))))
            self.heap.reserve([(fillers[-1], min(_FILLER, pages - low) * PAGE_TOKENS)])
        return fillers


class FreeList:
    """The simplest that could do: a stack of page numbers, taken and given by slices. No counts, no sharing."""

    def __init__(self, free: NDArray[np.int32]) -> None:
        self._stack = free
        self._top = len(free)

    def take(self, pages: int) -> NDArray[np.int32]:
        """Take this many pages; the caller made sure that they are there."""
        self._top -= pages
        return self._stack[self._top : self._top + pages].copy()

    def give(self, pages: NDArray[np.int32]) -> None:
        """Return pages."""
        self._stack[self._top : self._top + len(pages)] = pages
        self._top += len(pages)


class FreeListBench:
    """A shuffled free list, half of it held."""

    def __init__(self, pages: int, seed: int) -> None:
        self._pages = pages // 2
        self._list = FreeList(np.random.default_rng(seed).permutation(pages)[: self._pages].astype(np.int32))

    def measure(self, tokens: int) -> Figures:
        """One round of what it can do, in nanoseconds a token."""
        count, each = _count(self._pages // 2, tokens, _BATCH), pages_for(tokens, PAGE_TOKENS)
        held: list[NDArray[np.int32]] = []
        with _timing():
            allocate = _each(count * tokens, lambda: held.extend(self._list.take(each) for _ in range(count)))
            extend = _each(_GROWING * PAGE_TOKENS, lambda: held.append(self._list.take(_GROWING)))
            self._list.give(held.pop())
            free = _each(count * tokens, lambda: self._give(held))
        return {"allocate": allocate, "extend": extend, "free": free}

    def _give(self, held: list[NDArray[np.int32]]) -> None:
        for pages in held:
            self._list.give(pages)


def _count(pages: int, tokens: int, most: int) -> int:
    """How many sequences of this length so many pages hold, at most ``most``."""
    return max(1, min(most, pages // pages_for(tokens, PAGE_TOKENS)))


def _each(tokens: int, work: Callable[[], object]) -> float:
    """Nanoseconds a token."""
    began = perf_counter_ns()
    work()
    return (perf_counter_ns() - began) / tokens


@contextmanager
def _timing() -> Iterator[None]:
    """No garbage collection in between: it would be charged to whoever is being measured."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
