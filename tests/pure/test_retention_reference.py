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


def oldest(blocks: "OrderedDict[int, None]") -> int:
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


def arc(trace: list[int], pool: int, *, adapt_first: bool = False) -> list[bool]:
    """Figure 4 of the paper; unless ``adapt_first``, the target changes after the victim is chosen."""
    once, often, gone_once, gone_often = (OrderedDict[int, None]() for _ in range(4))
    target = 0.0
    found = []

    def replace(*, from_often: bool) -> None:
        if once and (len(once) > target or (adapt_first and from_often and len(once) == target) or not often):
            gone_once[once.popitem(last=False)[0]] = None
        else:
            gone_often[often.popitem(last=False)[0]] = None

    def adapted(block: int) -> float:
        if block in gone_once:
            return min(target + max(1.0, len(gone_often) / len(gone_once)), pool)
        if block in gone_often:
            return max(target - max(1.0, len(gone_once) / len(gone_often)), 0.0)
        return target

    for block in trace:
        hit = block in once or block in often
        found.append(hit)
        if hit:
            once.pop(block, None)
            often[block] = None
            often.move_to_end(block)
            continue
        known = [block in gone_once, block in gone_often]
        if adapt_first:
            target = adapted(block)
        if any(known):
            replace(from_often=known[1])
            if not adapt_first:
                target = adapted(block)
            gone_once.pop(block, None)
            gone_often.pop(block, None)
            often[block] = None
        else:
            if len(once) + len(gone_once) == pool:
                if len(once) < pool:
                    gone_once.popitem(last=False)
                    replace(from_often=False)
                else:
                    once.popitem(last=False)
            elif len(once) + len(often) + len(gone_once) + len(gone_often) >= pool:
                if len(once) + len(often) + len(gone_once) + len(gone_often) == 2 * pool:
                    gone_often.popitem(last=False)
                if len(once) + len(often) == pool:
                    replace(from_often=False)
            once[block] = None
    return found


def s3_fifo(trace: list[int], pool: int) -> list[bool]:
    small, main, ghosts = (OrderedDict[int, None]() for _ in range(3))
    uses: Counter[int] = Counter()
    found = []

    def evict() -> None:
        while True:
            if len(small) >= 0.1 * pool or not main:
                block, _ = small.popitem(last=False)
                if uses.pop(block, 0) <= 1:
                    ghosts[block] = None
                    if len(ghosts) > int(0.9 * pool):
                        ghosts.popitem(last=False)
                    return
                main[block] = None
            else:
                block, _ = main.popitem(last=False)
                if not uses[block]:
                    return
                uses[block] -= 1
                main[block] = None

    for block in trace:
        hit = block in small or block in main
        found.append(hit)
        if hit:
            uses[block] = min(uses[block] + 1, 3)
            continue
        if len(small) + len(main) == pool:
            evict()
        (main if block in ghosts else small)[block] = None
        ghosts.pop(block, None)
    return found


def tinylfu(trace: list[int], pool: int) -> list[bool]:
    """With the engine's own sketch, which has a test of its own, and its marks."""
    window, probation, protected = (OrderedDict[int, None]() for _ in range(3))
    sketch = Sketch(pool, 10 * pool)
    most_window = max(1, pool // 100)
    most_protected = int(0.8 * (pool - most_window))
    found = []

    def evict() -> None:
        while len(window) >= most_window:
            candidate, rival = oldest(window), oldest(probation or protected)
            window.popitem(last=False)
            if sketch.estimate(mark(candidate)) <= sketch.estimate(mark(rival)):
                return
            probation[candidate] = None
        (probation or protected).popitem(last=False)

    for block in trace:
        found.append(block in window or block in probation or block in protected)
        if not found[-1] and len(window) + len(probation) + len(protected) == pool:
            evict()
        sketch.add(mark(block))
        if block in probation or block in protected:
            probation.pop(block, None)
            protected[block] = None
            protected.move_to_end(block)
            while len(protected) > most_protected:
                probation[protected.popitem(last=False)[0]] = None
        else:
            window[block] = None
            window.move_to_end(block)
        while len(window) > most_window and len(probation) + len(protected) < pool - most_window:
            probation[window.popitem(last=False)[0]] = None
    return found


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
