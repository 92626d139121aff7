"""The tiers below the device, by themselves: what random walks over them found."""

from dataclasses import replace

import numpy as np

from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from infergc.policies.retention.lru import Lru
from samples.heaps import P, compute, finished, open_stream, small_shape
from samples.reclaiming import reclaim


def tiered(host: int, *, pages: int = 64, disk: bool = False) -> Heap:
    """A heap with so many slots below it."""
    return Heap(replace(small_shape(pages=pages), host_slots=host, disk=disk), Lru())


def test_nothing_hangs_on_a_page_for_which_there_was_no_room() -> None:
    heap = tiered(2)
    finished(heap, range(4 * P))
    reclaim(heap, 1)  # the last page lies in the host tier
    other = open_stream(heap, range(100, 100 + 2 * P))
    compute(heap, other, 2 * P)
    assert heap.claim(other) is not None  # every slot is spoken for
    reclaim(heap, 1)  # the page before it goes for good
    heap.check()
    assert heap.tiers is not None
    assert heap.tiers.counters.dropped == 1


def test_what_the_disk_lost_may_have_been_the_beginning_of_what_the_host_has() -> None:
    heap = tiered(4, disk=True)
    finished(heap, range(2 * P))
    assert heap.tiers is not None
    disk = heap.tiers.disk
    assert disk is not None
    heap.tiers.save(1, heap.planning)  # the first page
    reclaim(heap, 0)
    disk.has_written([name.key for job in disk.jobs(heap.completed) for name, _ in job.pages], well=True)
    reclaim(heap, 2)
    first = heap.stream(Namespace("m", ""), np.arange(2 * P, dtype=np.int32))[1]
    key = next(first).key
    heap.tiers.host.cached.move_to_end(key, last=False)
    finished(heap, range(100, 100 + 3 * P))
    reclaim(heap, 3)  # they take the places of the first page and one that was free
    assert key not in heap.tiers.host
    heap.check()
    disk.lost([key])
    heap.check()


def test_what_the_host_has_of_a_leaf_does_not_go_for_the_rest_of_it() -> None:
    heap = tiered(3)
    finished(heap, range(3 * P))
    reclaim(heap, 3)
    finished(heap, range(100, 100 + P))
    reclaim(heap, 1)  # takes the place of the last page
    finished(heap, range(3 * P))
    assert heap.tiers is not None
    spared = heap.tiers.counters.spared
    reclaim(heap, 3, at_once=3)
    heap.check()
    assert heap.tiers.counters.spared - spared == 2
    assert len(heap.below(Namespace("m", ""), np.arange(3 * P, dtype=np.int32))[1]) == 3


def test_what_is_kept_is_found_though_there_is_no_room_to_keep_what_follows() -> None:
    heap = tiered(3)
    finished(heap, range(2 * P))
    kept = open_stream(heap, range(2 * P))
    heap.share_prefix(kept, 2 * P, whole_pages=True)
    assert heap.claim(kept) is not None
    heap.close(kept)
    finished(heap, range(3 * P))
    other = open_stream(heap, range(100, 100 + P))
    compute(heap, other, P)
    reclaim(heap, 3)
    assert heap.claim(other) is not None
    assert heap.tiers is not None
    assert heap.tiers.host.stats[2:] == (1, 2, 0)
    assert len(heap.below(Namespace("m", ""), np.arange(3 * P, dtype=np.int32))[1]) == 2


def test_a_read_waits_for_the_moves_that_are_planned_by_now() -> None:
    """A slot may be given to it into which the step being planned is still to copy what it held before."""
    heap = tiered(1, disk=True)
    assert heap.tiers is not None
    disk = heap.tiers.disk
    assert disk is not None
    page = np.arange(P, dtype=np.int32)
    name = next(heap.stream(Namespace("m", ""), page)[1])
    disk.has_written([name.key], well=True)
    assert heap.touching == heap.planning - 1
    finished(heap, range(100, 100 + P))
    assert heap.reclaimer._reclaim(1, heap.planning, "room") == 1  # and no step is planned yet
    assert disk.read([name], heap.touching) is not None
    assert disk.jobs(heap.completed) == []
    assert disk.waits_for(heap.planning)


def test_a_page_that_left_the_device_twice_is_written_once() -> None:
    heap = tiered(32, disk=True)
    assert heap.tiers is not None
    disk = heap.tiers.disk
    assert disk is not None
    for _ in range(2):
        finished(heap, range(P))
        reclaim(heap, 1)
    heap.tiers.save(8, heap.planning)
    keys = [name.key for job in disk.jobs(heap.planning) for name, _ in job.pages]
    assert len(keys) == 1
    disk.has_written(keys, well=True)
    assert not heap.tiers.host.claims


def test_a_copy_for_who_gave_way_does_not_spoil_what_is_loaded_there() -> None:
    """Executors make a step's loads before its copies; both are for one page where its first owner has gone."""
    heap = tiered(16, pages=4)
    finished(heap, range(P))
    reclaim(heap, 1)
    parent = open_stream(heap, range(100, 100 + P + 3))
    compute(heap, parent, P + 3)
    branch = heap.fork(parent, "branch")
    assert branch is not None
    assert heap.reserve([(branch, P + 4)])
    assert [move.kind for move in heap.moves] == ["copy"]
    (copied_to,) = {move.dst for move in heap.moves}
    heap.close(branch)
    again = heap.open("again", TokenLog(np.arange(P + 1, dtype=np.int32)), Namespace("m", ""))
    assert again is not None
    _, names = heap.below(Namespace("m", ""), np.arange(P, dtype=np.int32))
    assert heap.restore(again, names, 4) == P
    assert [(move.kind, move.dst) for move in heap.moves] == [("load", copied_to)]


def test_what_the_host_had_no_room_for_is_saved_when_it_has() -> None:
    """An engine may come to rest by then: no news of the disk comes first."""
    heap = tiered(8, disk=True)
    assert heap.tiers is not None
    disk = heap.tiers.disk
    assert disk is not None
    waits = open_stream(heap, range(8 * P))
    compute(heap, waits, 8 * P)
    keys = heap.claim(waits)
    assert keys is not None
    finished(heap, range(100, 100 + P))
    disk.save(waits.tip, waits.tip.length)
    heap.tiers.save(8, heap.planning)
    assert not disk.can_save
    heap.unclaim(keys)
    assert disk.can_save
