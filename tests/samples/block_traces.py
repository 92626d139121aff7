"""Prompts made of blocks, one after the other through a heap, as ``infergc simulate --replay cache`` sends them."""

from collections.abc import Iterable, Sequence

import numpy as np

from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.marks import marks_in
from infergc.heap.nodes import I32, Namespace
from infergc.heap.objects import TokenLog
from infergc.heap.retention import Retention
from infergc.heap.stats import HeapConfig

P = 8  # tokens in a page: a block is a page
MOST_PAGES = 32  # of a pool from which no more is reclaimed than is asked for

Blocks = Sequence[int]


def tokens_of(blocks: Blocks) -> I32:
    """Equal ids stand for equal tokens."""
    return np.repeat(np.array(blocks, np.int32), P)


class BlockCache:
    """A heap that one prompt uses at a time."""

    def __init__(self, retention: Retention, pages: int) -> None:
        assert pages <= MOST_PAGES
        self.retention = retention
        self.heap = Heap(HeapConfig((GroupSpec("all", 1, None, pages),), P, 4, True), retention)

    def ask(self, blocks: Blocks, salt: str = "", written: Blocks = ()) -> int:
        """A request with this prompt comes, writes so many blocks, and goes; returns the blocks that were cached."""
        prompt = tokens_of(blocks)
        sequence = self.heap.open("one", TokenLog(tokens_of([*blocks, *written])), Namespace("m", salt))
        assert sequence is not None
        hit = self.heap.share_prefix(sequence, len(prompt), whole_pages=True)
        assert self.heap.reserve([(sequence, len(prompt))])
        self.heap.asked(sequence, len(prompt))
        assert self.heap.reserve([(sequence, sequence.tokens.size)])
        nothing = np.empty(0, np.int32)
        self.heap.begin_step(nothing, nothing, nothing)
        self.heap.complete(self.heap.planning - 1)
        self.heap.publish(sequence, sequence.tokens.size)
        self.heap.close(sequence)
        return hit // P

    def holds(self, blocks: Blocks, salt: str = "") -> int:
        """How many blocks of a prompt are cached; nothing changes."""
        tokens = tokens_of(blocks)
        return self.heap.tree.match(Namespace("m", salt), tokens, len(tokens)).pages

    def held(self, blocks: Iterable[int]) -> list[int]:
        """Which of these are cached, each a prompt of its own."""
        return [block for block in blocks if self.holds([block])]

    def marks(self) -> set[int]:
        """Of all pages that are cached."""
        return {mark for node in self.heap.tree.nodes() for mark in marks_in(node).tolist()}


def hits(retention: Retention, prompts: Iterable[Blocks], pages: int) -> list[int]:
    """Blocks found in the cache by each prompt."""
    cache = BlockCache(retention, pages)
    found = [cache.ask(prompt) for prompt in prompts]
    cache.heap.check()
    return found


def skewed(seed: int, count: int, blocks: int) -> list[list[int]]:
    """Prompts of one block each: some are asked for often, and which they are changes half way."""
    rng = np.random.default_rng(seed)
    ranks = np.minimum((rng.pareto(0.9, count) * 2).astype(int), blocks - 1)
    shift = np.where(np.arange(count) < count // 2, 0, blocks // 3)
    return [[block] for block in ((ranks + shift) % blocks + 1).tolist()]


def conversations(seed: int, count: int) -> list[list[int]]:
    """Prompts that go on where an earlier one ended, or begin anew, and at times leave the way."""
    rng = np.random.default_rng(seed)
    prompts: list[list[int]] = []
    for number in range(count):
        before = prompts[-int(rng.integers(1, 9))] if len(prompts) > 8 and rng.random() < 0.6 else []
        kept = before[: int(rng.integers(0, len(before) + 1))] if rng.random() < 0.3 else before
        fresh = [1 + 16 * number + step for step in range(int(rng.integers(1, 4)))]
        prompts.append([*kept, *fresh][:12])
    return prompts
