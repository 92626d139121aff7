"""The heap under random operations, every law checked after each one.

``--heap-ops N`` sets how many operations the seeded walks do over all shapes, at least: each goes on until it came upon
all that it is to come upon. Hypothesis comes on top, and shrinks what it finds.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from infergc.units import ceil_div
from laws.shapes import SHAPES, TIERED, Shape
from laws.walk import walk
from laws.world import World

_NUMBER = st.integers(0, (1 << 16) - 1)


class HeapMachine(RuleBasedStateMachine):
    """Rules over the whole heap; a rule that has nothing to act on does nothing."""

    @initialize(shape=st.sampled_from((*SHAPES, *TIERED)))
    def build(self, shape: Shape) -> None:
        self.world = World(shape)

    @rule(a=_NUMBER, b=_NUMBER, c=_NUMBER)
    def open_and_share(self, a: int, b: int, c: int) -> None:
        self.world.apply(("open", a, b, c))

    @rule(a=_NUMBER, c=_NUMBER)
    def open_plain(self, a: int, c: int) -> None:
        self.world.apply(("open", a & ~3, 0, c))

    @rule(a=_NUMBER, b=_NUMBER)
    def share_prefix(self, a: int, b: int) -> None:
        self.world.apply(("share", a, b, 0))

    @rule(a=_NUMBER, b=_NUMBER)
    def reserve(self, a: int, b: int) -> None:
        self.world.apply(("reserve", a, b, 0))

    @rule(a=_NUMBER, b=_NUMBER, c=_NUMBER)
    def step(self, a: int, b: int, c: int) -> None:
        self.world.apply(("step", a, b, c))

    @rule()
    def complete(self) -> None:
        self.world.apply(("complete", 0, 0, 0))

    @rule(a=_NUMBER, b=_NUMBER, c=_NUMBER)
    def append(self, a: int, b: int, c: int) -> None:
        self.world.apply(("append", a, b, c))

    @rule(a=_NUMBER)
    def publish(self, a: int) -> None:
        self.world.apply(("publish", a, 0, 0))

    @rule(a=_NUMBER)
    def slide(self, a: int) -> None:
        self.world.apply(("slide", a, 0, 0))

    @rule(a=_NUMBER, b=_NUMBER, c=_NUMBER)
    def truncate(self, a: int, b: int, c: int) -> None:
        self.world.apply(("truncate", a, b, c))

    @rule(a=_NUMBER)
    def fork(self, a: int) -> None:
        self.world.apply(("fork", a, 0, 0))

    @rule(a=_NUMBER)
    def taint(self, a: int) -> None:
        self.world.apply(("taint", a, 0, 0))

    @rule(a=_NUMBER, b=_NUMBER)
    def close(self, a: int, b: int) -> None:
        self.world.apply(("close", a, b, 0))

    @rule(a=_NUMBER)
    def compact(self, a: int) -> None:
        self.world.apply(("compact", a, 0, 0))

    @rule(kind=st.sampled_from(("session", "group")))
    def begin(self, kind: str) -> None:
        self.world.apply((kind, 0, 0, 0))

    @rule(a=_NUMBER, b=_NUMBER)
    def join(self, a: int, b: int) -> None:
        self.world.apply(("join", a, b, 0))

    @rule(a=_NUMBER)
    def leave(self, a: int) -> None:
        self.world.apply(("leave", a, 0, 0))

    @rule(a=_NUMBER, b=_NUMBER)
    def rejoin(self, a: int, b: int) -> None:
        self.world.apply(("rejoin", a, b, 0))

    @rule(a=_NUMBER, b=_NUMBER)
    def drop(self, a: int, b: int) -> None:
        self.world.apply(("drop", a, b, 0))

    @rule(a=_NUMBER)
    def shed(self, a: int) -> None:
        self.world.apply(("shed", a, 0, 0))

    @rule(kind=st.sampled_from(("pin", "unpin", "hint", "tick")), a=_NUMBER, b=_NUMBER, c=_NUMBER)
    def keep(self, kind: str, a: int, b: int, c: int) -> None:
        self.world.apply((kind, a, b, c))

    @rule(kind=st.sampled_from(("cycles", "collect", "major", "verify")), a=_NUMBER, b=_NUMBER, c=_NUMBER)
    def tidy(self, kind: str, a: int, b: int, c: int) -> None:
        self.world.apply((kind, a, b, c))

    @rule(kind=st.sampled_from(("restore", "give_way", "come_back", "forget")), a=_NUMBER, b=_NUMBER, c=_NUMBER)
    def swap(self, kind: str, a: int, b: int, c: int) -> None:
        self._below(kind, a, b, c)

    @rule(kind=st.sampled_from(("refill", "copy_step", "save")), a=_NUMBER, b=_NUMBER)
    def sink(self, kind: str, a: int, b: int) -> None:
        self._below(kind, a, b, 0)

    @rule(kind=st.sampled_from(("seek", "hand_over", "disk", "news", "lose")), a=_NUMBER, b=_NUMBER, c=_NUMBER)
    def disk(self, kind: str, a: int, b: int, c: int) -> None:
        self._below(kind, a, b, c)

    def _below(self, kind: str, a: int, b: int, c: int) -> None:
        if self.world.shape.host:
            self.world.apply((kind, a, b, c))

    @invariant()
    def laws(self) -> None:
        self.world.inspect()


class TestHeapMachine(HeapMachine.TestCase):
    settings = settings(
        max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def happened(world: World) -> set[str]:
    """Names of what happened in it."""
    return {name for name, times in world.seen.items() if times}


def false(demands: dict[str, bool]) -> set[str]:
    """Names of the demands that are not met."""
    return {name for name, met in demands.items() if not met}


def unseen(world: World) -> set[str]:
    """What a walk is to come upon, and this one did not yet."""
    expected = {"step", "complete", "fork", "truncate", "late stop", "copy", "append"}
    expected |= {"join", "leave", "drop", "major", "verify"}
    counters = world.heap.counters
    lacking = false({"major collections": world.collector.counters.major > 0})
    if world.shape.compacts:
        lacking |= false({"compactions": counters.compactions > 5})
    if world.shape.prefix_caching:
        expected |= {"hit", "part of a page", "parked", "cycle", "pin held", "unpin", "hint", "tick"}
        lacking |= false({
            "evictions": counters.evicted > 0,
            "deduplication": counters.deduplicated > 0,
            "promotions": min(world.heap.tree.generations.promoted[1:]) > 0,
            "minor collections": world.collector.counters.minor > 0,
        })  # fmt: skip
    return expected - happened(world) | lacking


def unseen_below(world: World) -> set[str]:
    """The same with tiers below the device."""
    assert world.heap.tiers is not None
    expected = {"restored", "give_way", "come_back", "forget", "refill", "copy_step"}
    counters, disk = world.heap.tiers.counters, world.heap.tiers.disk
    lacking = false({"transfers": min(counters.demoted, counters.spared, counters.promoted) > 0})
    if world.shape.host < 100:
        lacking |= false({"slots let go": world.heap.tiers.host.let_go > 0})
    if disk is not None:
        expected |= {"save", "disk", "news"} | (set() if world.shape.compacts else {"read"})
        lacking |= false({"writes": min(disk.counters.written, disk.counters.unwritten, disk.counters.lost) > 0})
    return expected - happened(world) | lacking


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_laws_hold_on_long_walks(shape: Shape, request: pytest.FixtureRequest) -> None:
    count = ceil_div(request.config.getoption("--heap-ops"), len(SHAPES))
    world, _ = walk(shape, seed=3, count=count, unseen=unseen)
    assert world.done >= count
    assert not unseen(world), world.seen


@pytest.mark.parametrize("shape", TIERED, ids=lambda shape: shape.name)
def test_laws_hold_on_long_walks_with_tiers(shape: Shape, request: pytest.FixtureRequest) -> None:
    count = ceil_div(request.config.getoption("--heap-ops"), 20)
    world, _ = walk(shape, seed=4, count=count, unseen=unseen_below)
    assert not unseen_below(world), world.seen
    assert world.heap.tiers is not None
    if shape.host >= 100:
        assert world.heap.tiers.host.let_go == 0
