"""Small heaps and the least that a scheduler does with them."""

from collections.abc import Iterable

import numpy as np

from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.moves import Move
from infergc.heap.nodes import Namespace
from infergc.heap.objects import Sequence, TokenLog
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.lru import Lru

P = 8  # tokens in a page of these heaps


def small_shape(*windows: int | None, pages: int = 64, slots: int = 8, caching: bool = True) -> HeapConfig:
    """One group per window (None: full attention), each of ``pages`` pages of 8 tokens."""
    groups = tuple(GroupSpec(f"g{at}", 1 << at, window, pages) for at, window in enumerate(windows or (None,)))
    return HeapConfig(groups, P, slots, caching)


def small_heap(*windows: int | None, pages: int = 64, slots: int = 8, caching: bool = True) -> Heap:
    """A heap of that shape."""
    return Heap(small_shape(*windows, pages=pages, slots=slots, caching=caching), Lru())


def open_stream(heap: Heap, tokens: Iterable[int], salt: str = "") -> Sequence:
    """A sequence over these tokens that holds nothing yet."""
    sequence = heap.open(f"s{salt}", TokenLog(np.array(list(tokens), np.int32)), Namespace("m", salt))
    assert sequence is not None
    return sequence


def begin(heap: Heap, sequence: Sequence, start: int, upto: int) -> tuple[int, tuple[Move, ...]]:
    """Reserve and begin a step that computes positions start … upto - 1; returns its number and moves."""
    assert heap.reserve([(sequence, upto)])
    step = heap.planning
    rows = (np.array([number], np.int32) for number in (sequence.slot, start, upto - start))
    heap.begin_step(*rows)
    return step, heap.take_moves()


def compute(heap: Heap, sequence: Sequence, upto: int, start: int = 0, *, publish: bool = True) -> tuple[Move, ...]:
    """Compute positions start … upto - 1 in one step, wait for it, publish; returns the step's moves."""
    step, moves = begin(heap, sequence, start, upto)
    heap.check()
    heap.complete(step)
    if publish:
        heap.publish(sequence, upto)
    heap.check()
    return moves


def finished(heap: Heap, tokens: Iterable[int], salt: str = "") -> None:
    """A request that came, computed all its tokens, published them and went."""
    sequence = open_stream(heap, tokens, salt)
    heap.asked(sequence, sequence.tokens.size)
    compute(heap, sequence, sequence.tokens.size)
    heap.close(sequence)
    heap.check()


def ask(heap: Heap, tokens: Iterable[int]) -> int:
    """A request with this prompt and no more, computed in one step; returns the pages that were cached. No checks."""
    sequence = open_stream(heap, tokens)
    known = sequence.tokens.size
    cached = heap.share_prefix(sequence, known - 1, whole_pages=True)
    heap.asked(sequence, known)
    step, _ = begin(heap, sequence, cached, known)
    heap.complete(step)
    heap.publish(sequence, known)
    heap.close(sequence)
    return cached // P


def pages_held(heap: Heap, sequence: Sequence, group: int = 0) -> list[int]:
    """Physical pages of a sequence, in order."""
    return [page for first, count in heap.tables[group].row(sequence.slot) for page in range(first, first + count)]
