"""What generations give, on a recorded trace: hit rate and collector work with them and without.

    python benchmarks/generations.py TRACE.jsonl[.gz] [--pages 1000,3000,10000] [--young 256 --survivor 2048]

Requests of the trace (``hash_ids``, one for each block of a prompt) come one after the other through the heap itself,
each a step of its own: it looks its prefix up, takes pages for the rest, publishes them and goes. A block of the
trace is a page here. No live memory competes, so only what is kept differs.
"""

import argparse
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infergc.heap.collector import Collector, Triggers
from infergc.heap.generations import Ages
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from infergc.heap.retention import Retention
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.generational import Generational
from infergc.policies.retention.lru import Lru

PAGE = 8  # tokens that stand for a block: only whole blocks match, as all of them carry its number
ENOUGH = 1 << 40


@dataclass(frozen=True, slots=True)
class Result:
    """One replay: pages of prompts found in the cache and looked up, evicted, and work units of the collector."""

    hits: int
    asked: int
    evicted: int
    units: dict[str, int]

    @property
    def rate(self) -> float:
        """Share of the prompt pages that were hits."""
        return self.hits / self.asked


def prompts(trace: Path) -> Iterator[list[int]]:
    """Block numbers of each request."""
    with gzip.open(trace, "rt") if trace.suffix == ".gz" else trace.open() as lines:
        for line in lines:
            yield json.loads(line)["hash_ids"]


def replay(trace: list[list[int]], pages: int, retention: Retention, ages: Ages) -> Result:
    """Let every request that fits come and go."""
    heap = Heap(HeapConfig((GroupSpec("all", 1, None, pages),), PAGE, 2, ages=ages), retention)
    collector = Collector(heap, Triggers())
    hits = asked = 0
    for blocks in trace:
        asked += len(blocks)
        if len(blocks) < pages:
            hits += _serve(heap, blocks)
        collector.collect(ENOUGH)
    return Result(hits, asked, heap.counters.evicted, collector.counters.units)


def _serve(heap: Heap, blocks: list[int]) -> int:
    tokens = np.repeat(np.array([*blocks, -1], np.int32), PAGE)
    sequence = heap.open("trace", TokenLog(tokens), Namespace("trace"))
    assert sequence is not None
    hit, size = heap.share_prefix(sequence, len(blocks) * PAGE, whole_pages=True), len(blocks) * PAGE
    granted = heap.reserve([(sequence, size)])
    assert granted
    step = heap.planning
    slots = np.array([sequence.slot])
    heap.begin_step(slots, np.array([hit], np.int32), np.array([size - hit], np.int32))
    heap.take_moves()
    heap.complete(step)
    heap.publish(sequence, size)
    heap.close(sequence)
    return hit // PAGE


def main() -> None:
    """Replay with both and print a row for each pool."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("--pages", default="1000,3000,10000,20000", help="default 1000,3000,10000,20000")
    parser.add_argument("--young", type=int, default=Ages().young)
    parser.add_argument("--survivor", type=int, default=Ages().survivor)
    parser.add_argument("--tenured", type=int, default=Ages().tenured)
    args = parser.parse_args()
    trace, ages = list(prompts(args.trace)), Ages(args.young, args.survivor, args.tenured)
    print(f"{'pages':>7} {'lru':>8} {'generations':>12} {'ratio':>6}   units of minor and major collections")
    for pages in map(int, args.pages.split(",")):
        plain, ours = replay(trace, pages, Lru(), ages), replay(trace, pages, Generational(), ages)
        work = f"{ours.units['minor']:,} and {ours.units['major']:,}"
        print(f"{pages:>7} {plain.rate:8.4f} {ours.rate:12.4f} {ours.rate / plain.rate:6.3f}   {work}", flush=True)


if __name__ == "__main__":
    main()
