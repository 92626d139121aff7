"""What requests have of the tiers: the corners that loads seldom reach."""

from dataclasses import replace

import numpy as np

from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.params import SamplingParams
from infergc.policies.preemption.swap import Swap
from infergc.policies.retention.lru import Lru
from infergc.policies.tiering.sooner import Sooner
from infergc.sched.request import Request
from infergc.sched.step_times import StepTimes
from infergc.sched.tier_use import TierUse
from samples.heaps import P, compute, finished, open_stream, small_shape
from samples.reclaiming import reclaim


def test_a_branch_whose_published_pages_end_elsewhere_goes_on_with_what_it_has() -> None:
    """A hypothesis starts from one of its group that has published less than another, which gave way."""
    heap = Heap(replace(small_shape(), host_slots=32), Lru())
    use = TierUse(heap, StepTimes(), Swap(), Sooner(), 100)
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
