"""Known policies against small ones of their papers' words, block by block, each block a prompt of its own."""

from collections import Counter, OrderedDict
from collections.abc import Callable

import pytest

from infergc.heap.marks import marks_of, seed_of
from infergc.heap.nodes import U64, Namespace
from infergc.heap.retention import Retention
from infergc.policies.retention.arc import Arc
from infergc.policies.retention.belady import Belady
from infergc.policies.retention.lfu import Lfu
from infergc.policies.retention.lru import Lru
from infergc.policies.retention.s3_fifo import S3Fifo
from infergc.policies.retention.sketch import Sketch
from infergc.policies.retention.slru import Slru
from infergc.policies.retention.tinylfu import TinyLfu
from samples.block_traces import P, hits, skewed, tokens_of

Reference = Callable[[list[int], int], list[bool]]  # blocks, pool → whether each was hit


def oldest(blocks: OrderedDict[int, None]) -> int:
    return next(iter(blocks))


def lru(trace: list[int], pool: int) -> list[bool]:
    cache: OrderedDict[int, None] = OrderedDict()
    found = []
    for block in trace:
        found.append(block in cache)
        if block not in cache and len(cache) == pool:
            cache.popitem(last=False)
        cache[block] = None
        cache.move_to_end(block)
    return found


def lfu(trace: list[int], pool: int) -> list[bool]:
    cache: dict[int, int] = {}  # block → when it was used last
    counts: Counter[int] = Counter()
    found = []
    for now, block in enumerate(trace):
        found.append(block in cache)
        if block not in cache and len(cache) == pool:
            del cache[min(cache, key=lambda each: (counts[each], cache[each]))]
        counts[block] += 1
        cache[block] = now
    return found


def slru(trace: list[int], pool: int) -> list[bool]:
    probation: OrderedDict[int, None] = OrderedDict()
    protected: OrderedDict[int, None] = OrderedDict()
    found = []
    for block in trace:
        hit = block in probation or block in protected
        found.append(hit)
        if hit:
            probation.pop(block, None)
            protected[block] = None
            protected.move_to_end(block)
            while len(protected) > pool / 2:
                probation[protected.popitem(last=False)[0]] = None
            continue
        if len(probation) + len(protected) == pool:
            (probation or protected).popitem(last=False)
        probation[block] = None
    return found


class ReferenceArc:
    """Figure 4 of the paper; unless ``adapt_first``, the target changes after the victim is chosen."""

    def __init__(self, pool: int, *, adapt_first: bool) -> None:
        self.pool, self.adapt_first = pool, adapt_first
        self.once, self.often, self.gone_once, self.gone_often = (OrderedDict[int, None]() for _ in range(4))
        self.target = 0.0

    def ask(self, block: int) -> bool:
        if block in self.once or block in self.often:
            self.once.pop(block, None)
            self.often[block] = None
            self.often.move_to_end(block)
            return True
        if block in self.gone_once or block in self.gone_often:
            self.come_back(block)
        else:
            self.make_room()
            self.once[block] = None
        return False

    def come_back(self, block: int) -> None:
        if self.adapt_first:
            self.adapt(block)
        self.replace(ties=self.adapt_first and block in self.gone_often)
        if not self.adapt_first:
            self.adapt(block)
        self.gone_once.pop(block, None)
        self.gone_often.pop(block, None)
        self.often[block] = None

    def adapt(self, block: int) -> None:
        if block in self.gone_once:
            self.target = min(self.target + max(1.0, len(self.gone_often) / len(self.gone_once)), self.pool)
        else:
            self.target = max(self.target - max(1.0, len(self.gone_once) / len(self.gone_often)), 0.0)

    def make_room(self) -> None:
        cached, gone = len(self.once) + len(self.often), len(self.gone_once) + len(self.gone_often)
        if len(self.once) == self.pool:
            self.once.popitem(last=False)
        elif len(self.once) + len(self.gone_once) == self.pool:
            self.gone_once.popitem(last=False)
            self.replace()
        elif cached == self.pool:
            if gone == self.pool:
                self.gone_often.popitem(last=False)
            self.replace()

    def replace(self, *, ties: bool = False) -> None:
        large = len(self.once) > self.target or (ties and len(self.once) == self.target)
        if self.once and (large or not self.often):
            self.gone_once[self.once.popitem(last=False)[0]] = None
        else:
            self.gone_often[self.often.popitem(last=False)[0]] = None


def arc(trace: list[int], pool: int, *, adapt_first: bool = False) -> list[bool]:
    cache = ReferenceArc(pool, adapt_first=adapt_first)
    return [cache.ask(block) for block in trace]


class ReferenceS3Fifo:
    """Algorithm 1 of the paper, whose choice of a queue is made anew after each block that is moved."""

    def __init__(self, pool: int) -> None:
        self.pool = pool
        self.small, self.main, self.ghosts = (OrderedDict[int, None]() for _ in range(3))
        self.uses: Counter[int] = Counter()

    def ask(self, block: int) -> bool:
        if block in self.small or block in self.main:
            self.uses[block] = min(self.uses[block] + 1, 3)
            return True
        full = len(self.small) + len(self.main) == self.pool
        while full and not (self.evict_small() if self.turn_of_small() else self.evict_main()):
            pass
        (self.main if block in self.ghosts else self.small)[block] = None
        self.ghosts.pop(block, None)
        return False

    def turn_of_small(self) -> bool:
        return len(self.small) >= 0.1 * self.pool or not self.main

    def evict_small(self) -> bool:
        block, _ = self.small.popitem(last=False)
        if self.uses.pop(block, 0) > 1:
            self.main[block] = None
            return False
        self.ghosts[block] = None
        if len(self.ghosts) > int(0.9 * self.pool):
            self.ghosts.popitem(last=False)
        return True

    def evict_main(self) -> bool:
        block, _ = self.main.popitem(last=False)
        if not self.uses[block]:
            return True
        self.uses[block] -= 1
        self.main[block] = None
        return False


def s3_fifo(trace: list[int], pool: int) -> list[bool]:
    cache = ReferenceS3Fifo(pool)
    return [cache.ask(block) for block in trace]


class ReferenceTinyLfu:
    """With the engine's own sketch, which has a test of its own, and its marks."""

    def __init__(self, pool: int) -> None:
        self.pool, self.most_window = pool, max(1, pool // 100)
        self.window, self.probation, self.protected = (OrderedDict[int, None]() for _ in range(3))
        self.sketch = Sketch(pool, 10 * pool)

    def ask(self, block: int) -> bool:
        hit = block in self.window or block in self.probation or block in self.protected
        if not hit and len(self.window) + len(self.probation) + len(self.protected) == self.pool:
            self.evict()
        self.sketch.add(mark(block))
        home = self.protected if hit and block not in self.window else self.window
        self.probation.pop(block, None)
        home[block] = None
        home.move_to_end(block)
        self.settle()
        return hit

    def evict(self) -> None:
        while len(self.window) >= self.most_window:
            candidate, _ = self.window.popitem(last=False)
            rival = oldest(self.probation or self.protected)
            if self.sketch.estimate(mark(candidate)) <= self.sketch.estimate(mark(rival)):
                return
            self.probation[candidate] = None
        (self.probation or self.protected).popitem(last=False)

    def settle(self) -> None:
        room = self.pool - self.most_window
        while len(self.protected) > int(0.8 * room):
            self.probation[self.protected.popitem(last=False)[0]] = None
        while len(self.window) > self.most_window and len(self.probation) + len(self.protected) < room:
            self.probation[self.window.popitem(last=False)[0]] = None


def tinylfu(trace: list[int], pool: int) -> list[bool]:
    cache = ReferenceTinyLfu(pool)
    return [cache.ask(block) for block in trace]


def belady(trace: list[int], pool: int) -> list[bool]:
    cache: set[int] = set()
    found = []
    for now, block in enumerate(trace):
        found.append(block in cache)
        if block not in cache and len(cache) == pool:
            to_come = trace[now + 1 :]
            cache.remove(max(cache, key=lambda each: to_come.index(each) if each in to_come else len(trace)))
        cache.add(block)
    return found


def mark(block: int) -> U64:
    return marks_of(tokens_of([block]), P, seed_of(Namespace("m")), 0)


KNOWN: dict[str, tuple[Callable[[], Retention], Reference]] = {
    "lru": (Lru, lru), "lfu": (Lfu, lfu), "slru": (Slru, slru), "arc": (Arc, arc), "s3-fifo": (S3Fifo, s3_fifo),
    "tinylfu": (TinyLfu, tinylfu),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize(("seed", "pool", "blocks"), [(1, 5, 12), (2, 13, 40), (3, 20, 80), (4, 30, 60), (5, 31, 400)])
def test_it_hits_what_the_paper_hits(name: str, seed: int, pool: int, blocks: int) -> None:
    retention, reference = KNOWN[name]
    prompts = skewed(seed, 500, blocks)
    found = [bool(hit) for hit in hits(retention(), prompts, pool)]
    assert found == reference([block for (block,) in prompts], pool)
    assert 0 < sum(found) < len(found)


@pytest.mark.parametrize(("seed", "pool", "blocks"), [(1, 5, 12), (2, 13, 40), (3, 20, 80), (4, 30, 60)])
def test_belady_hits_as_often_as_its_bound(seed: int, pool: int, blocks: int) -> None:
    """Which of two blocks that never come again goes is open; how many are hit is not."""
    prompts = skewed(seed, 500, blocks)
    found = hits(Belady(("", tokens_of(prompt)) for prompt in prompts), prompts, pool)
    assert found == [int(hit) for hit in belady([block for (block,) in prompts], pool)]


@pytest.mark.parametrize("seed", range(4))
def test_arc_loses_little_by_adapting_after_its_choice(seed: int) -> None:
    trace = [block for (block,) in skewed(seed, 3000, 90)]
    first, after = sum(arc(trace, 25, adapt_first=True)), sum(arc(trace, 25))
    assert abs(first - after) <= 0.01 * len(trace)
