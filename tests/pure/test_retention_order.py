"""The order in which leaves are reclaimed where a policy has several queues, and where leaves change their places."""

from collections.abc import Sequence

import pytest

from infergc.heap.nodes import Node
from infergc.heap.retention import End, Retention
from samples.block_traces import BlockCache


class ByUse(Retention):
    """What was never hit goes last."""

    queues = 2

    def place(self, node: Node) -> tuple[int, float]:
        return int(not node.uses), node.used


class Backwards(Retention):
    """What was used last goes first: use lowers the rank."""

    def rank(self, node: Node) -> float:
        return -node.used


class SecondChance(Retention):
    """The oldest goes, but what was hit comes to the end, behind all that come after it."""

    queues = 2

    def __init__(self) -> None:
        self.looked: list[Node] = []
        self.spared: dict[int, int] = {}

    def rank(self, node: Node) -> float:
        return self.spared.get(node.id, node.id)

    def choose(self, ends: Sequence[End | None]) -> int | None:
        (end, nothing) = ends
        assert end is not None
        assert nothing is None
        if end.node.uses and end.node.id not in self.spared:
            self.spared[end.node.id] = 1000 + len(self.spared)
            return None
        return 0


def ask(cache: BlockCache, blocks: Sequence[int]) -> None:
    for block in blocks:
        cache.ask([block])


def test_a_leaf_that_goes_to_a_queue_already_looked_at_is_found() -> None:
    cache = BlockCache(ByUse(), 2)
    ask(cache, [1, 2, 1, 2])  # both were filed in the last queue, and belong in the first
    ask(cache, [3])
    assert cache.held([1, 2, 3]) == [2, 3]
    ask(cache, [4])
    assert cache.held([1, 2, 3, 4]) == [3, 4], "one that was hit goes before one that never was"
    cache.heap.check()


@pytest.mark.parametrize("eager", [False, True])
def test_use_that_lowers_a_rank_counts_at_once_where_the_policy_says_so(eager: bool) -> None:
    policy = Backwards()
    policy.eager = eager
    cache = BlockCache(policy, 3)
    ask(cache, [1, 2, 3, 1, 4])
    assert cache.held([1, 2, 3, 4]) == ([2, 3, 4] if eager else [1, 2, 4])


def test_a_policy_may_spare_what_is_at_the_end() -> None:
    cache = BlockCache(SecondChance(), 3)
    ask(cache, [1, 2, 3, 1, 2, 4])
    assert cache.held([1, 2, 3, 4]) == [1, 2, 4]
    ask(cache, [5, 6])
    assert cache.held(range(1, 7)) == [1, 2, 6]
