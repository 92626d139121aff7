"""What requests have of the tiers: the corners that loads seldom reach."""

from dataclasses import replace

import numpy as np

from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.params import SamplingParams
from infergc.policies.retention.lru import Lru
from infergc.policies.tiering.always import Always
from infergc.policies.tiering.sooner import Sooner
from infergc.sched.request import Request
from infergc.sched.step_times import StepTimes
from infergc.sched.tier_use import Preferring, TierUse
from samples.heaps import P, compute, finished, open_stream, small_shape
from samples.reclaiming import reclaim


def test_a_branch_whose_published_pages_end_elsewhere_goes_on_with_what_it_has() -> None:
    """A hypothesis starts from one of its group that has published less than another, which gave way."""
    heap = Heap(replace(small_shape(), host_slots=32), Lru())
    use = TierUse(heap, StepTimes(), Always(), Sooner(0.8), 100)
    finished(heap, range(5 * P))
    reclaim(heap, 4)
    near = open_stream(heap, range(5 * P))
    compute(heap, near, 2 * P, publish=False)
    branch = heap.fork(near, "branch")
    assert branch is not None
    request = Request("branch", 0, branch.tokens, 5 * P, SamplingParams(), 6 * P, branch.namespace)
    pages, names = heap.below(Namespace("m", ""), np.arange(5 * P, dtype=np.int32))
    assert (pages, len(names)) == (1, 4)
    assert use.restore(request, branch, names, 2 * P) == 2 * P
    assert heap.moves == []
    heap.check()


def slow(heap: Heap, times: StepTimes, loads: Preferring) -> TierUse:
    """Where a copy takes ten seconds a byte."""
    use = TierUse(heap, times, Always(), loads, 100)
    use.copying.learn(1, 10.0)
    return use


def below(heap: Heap) -> Request:
    """A request of which the host tier has everything."""
    finished(heap, range(5 * P))
    reclaim(heap, 5)
    asker = open_stream(heap, range(5 * P))
    return Request("again", 0, asker.tokens, 5 * P, SamplingParams(), 6 * P, asker.namespace)


def test_always_is_whatever_it_takes() -> None:
    heap = Heap(replace(small_shape(), host_slots=32), Lru())
    times = StepTimes()
    times.learn(16, 16, 0.016)
    assert slow(heap, times, Always()).find(below(heap))


def test_a_transfer_that_was_slow_once_is_tried_again_some_time() -> None:
    """One read that took long, of a disk that slept perhaps, is no reason never to read again."""
    heap = Heap(replace(small_shape(), host_slots=32), Lru())
    times = StepTimes()
    for tokens in (1, 2, 4, 8, 16):
        times.learn(tokens, tokens, 0.001 * tokens)
    use, request = slow(heap, times, Sooner(0.8)), below(heap)
    tries = 0
    while not use.find(request):
        assert heap.tiers is not None
        heap.tiers.planned()
        tries += 1
        assert tries < 5000, "it is never tried again"
    assert tries > 100, "once is not forgotten at once"
