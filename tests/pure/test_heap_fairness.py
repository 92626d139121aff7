"""Every kind of the collector's work gets its turn, and what waits for a turn does not grow without bound."""

from collections.abc import Callable
from itertools import count

from infergc.heap.collector import Collector, Triggers
from infergc.heap.generations import YOUNG, Ages
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.nodes import Node
from infergc.heap.objects import HeapObject
from infergc.heap.retention import Retention
from infergc.heap.stats import HeapConfig
from infergc.heap.trace import Marking
from infergc.policies.retention.lru import Lru
from samples.heaps import P, begin, compute, finished, open_stream, small_heap

BUDGET = 16  # the least that a pacer gives


def dropped_whole(heap: Heap, members: int) -> HeapObject:
    """A session that is deleted while its requests run, and these end: a cycle, and candidates."""
    session = heap.session("chat")
    sequences = [open_stream(heap, range(P)) for _ in range(members)]
    for sequence in sequences:
        heap.join(session, sequence)
    heap.graph.unroot(session)
    for sequence in sequences:
        heap.close(sequence)
    return session


def calls_until(over: Callable[[], bool], call: Callable[[], object], most: int = 500) -> int:
    for made in count():
        if over():
            return made
        assert made < most
        call()
    raise AssertionError


def test_candidates_without_end_starve_no_major_collection() -> None:
    heap = small_heap(pages=1024)
    collector = Collector(heap, Triggers(major_pages=1))
    finished(heap, range(3 * P))
    while not collector.collect(10_000) and collector.counters.major < 1:
        pass
    before = collector.counters.major
    finished(heap, range(1000, 1000 + 3 * P))

    def flood() -> None:
        dropped_whole(heap, 6)  # costs trial deletion more than the whole budget
        collector.collect(BUDGET)

    assert calls_until(lambda: collector.counters.major > before, flood) < 100
    assert not collector.found, "what trial deletion had no turn for is nothing wrong"


def test_candidates_without_end_starve_neither_minor_collections_nor_the_target() -> None:
    heap = Heap(HeapConfig((GroupSpec("all", 1, None, 64),), P, 8, ages=Ages(young=1)), Lru())
    heap.reclaimer.target_free = 0.75
    collector = Collector(heap, Triggers(minor_pages=1))
    for number in range(20):
        finished(heap, range(100 * number, 100 * number + 2 * P))

    def flood() -> None:
        dropped_whole(heap, 6)
        collector.collect(BUDGET)

    calls = calls_until(lambda: collector.counters.minor > 0 and heap.stats()[0].free >= 48, flood)
    assert calls < 40


def test_the_next_call_goes_on_with_who_had_no_turn() -> None:
    heap = small_heap()
    collector = Collector(heap, Triggers(minor_pages=1, major_pages=1))
    finished(heap, range(3 * P))
    dropped_whole(heap, 6)
    units = collector.counters.units
    collector.collect(1)
    assert (units["cycles"] > 0, units["major"]) == (True, 0)
    dropped_whole(heap, 6)
    collector.collect(1)
    assert units["major"] > 0


def test_marking_ends_though_more_is_dropped_than_it_may_mark() -> None:
    heap = small_heap(slots=64)
    kept = [heap.session(f"kept {number}") for number in range(40)]
    marking = Marking(heap.graph)

    def step() -> None:
        for number in range(20):  # objects made since marking began come and go
            heap.graph.unroot(heap.session(f"new {number}"))
        for session in kept:  # and old ones lose a reference
            heap.graph.root(session)
            heap.graph.unroot(session)

    def slice_() -> bool:
        step()
        return marking.mark(4) < 4

    assert calls_until(slice_, lambda: None) <= 40
    assert not marking.sweep()
    assert len(heap.graph.objects) == 40


def test_what_is_dropped_while_nobody_marks_is_no_more_than_there_was() -> None:
    heap = small_heap()
    kept = [heap.session(f"kept {number}") for number in range(3)]
    Marking(heap.graph)
    for number in range(500):
        heap.graph.root(kept[number % 3])
        heap.graph.unroot(kept[number % 3])
        heap.graph.unroot(heap.session("new"))
    assert len(heap.graph.take_drops()) == 3
    assert heap.graph.take_drops() == []


def test_garbage_that_a_candidate_leads_to_is_freed_and_nothing_wrong() -> None:
    heap = small_heap()
    collector = Collector(heap, Triggers())
    dropped_whole(heap, 2)
    assert heap.graph.candidates
    while collector.counters.major == 0:
        collector.major(4)
    assert len(heap.graph.objects) == 0
    assert not collector.found
    heap.check()


def test_a_page_renewed_for_ever_leaves_no_entries_behind() -> None:
    """Nothing is reclaimed, and a hot prefix goes up and down the generations: its rank changes each time."""
    heap = Heap(HeapConfig((GroupSpec("all", 1, None, 64),), P, 8, ages=Ages()), Lru())
    for number in range(4):
        finished(heap, range(100 * number, 100 * number + 2 * P))
    order, nodes = heap.tree.order, heap.tree.nodes()
    for number in range(1000):
        node = nodes[number % 4]
        node.used = number
        order.renew(node)
        assert max(len(queue) for queue in order._heaps) <= 2 * 4 + 64 + 1
    gone = [order.pop() for _ in range(5)]
    assert gone == [*sorted(nodes, key=lambda node: node.used), None]


def test_what_verify_found_is_told_once() -> None:
    """With ``--gc off`` nobody asks a second time."""
    heap = small_heap()
    collector = Collector(heap, Triggers())
    sequence = open_stream(heap, range(3 * P))
    compute(heap, sequence, 3 * P)
    for _ in range(3):
        heap.groups[0].retain(heap.tables[0].row(sequence.slot), 0)
        assert len(collector.verify().leaks) == 1
    assert not collector.take_findings()


def test_a_major_collection_goes_on_though_more_comes_of_age_than_it_may_look_at() -> None:
    ages = Ages(young=1, survivor=1, tenured=1)
    heap = Heap(HeapConfig((GroupSpec("all", 1, None, 256),), P, 8, ages=ages), Lru())
    for number in range(60):
        finished(heap, range(100 * number, 100 * number + P))
    collector = Collector(heap, Triggers())

    def serve_all() -> None:
        heap.planning += 1
        for node in heap.tree.nodes():
            heap.tree.serve(node, heap.planning)
        heap.tree.generations.look(YOUNG, heap.planning, 60)

    def step() -> None:
        serve_all()
        collector.major(4)

    serve_all()
    assert calls_until(lambda: collector.counters.major > 0, step, most=200) < 100


class UsedFirst(Retention):
    """Two queues: a leaf that is served goes over to the one that is looked at first."""

    queues = 2

    def place(self, node: Node) -> tuple[int, float]:
        return (0 if node.uses else 1), node.used


def test_a_leaf_that_changed_its_queue_is_found_there() -> None:
    heap = Heap(HeapConfig((GroupSpec("all", 1, None, 8),), P, 8), UsedFirst())
    finished(heap, range(4 * P))
    stream = open_stream(heap, range(4 * P))
    begin(heap, open_stream(heap, range(900, 900 + P)), 0, P)  # a step later
    heap.share_prefix(stream, 4 * P)
    heap.close(stream)
    finished(heap, range(500, 500 + 7 * P))  # all that there is
    assert heap.counters.evicted == 4
