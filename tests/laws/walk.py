"""Seeded random walks over a world."""

from collections.abc import Callable, Iterator

import numpy as np

from laws.shapes import Shape
from laws.world import Operation, World

WEIGHTS = {
    "open": 12, "share": 3, "step": 30, "complete": 26, "reserve": 5, "publish": 8, "slide": 8,
    "truncate": 6, "fork": 4, "taint": 1, "close": 10, "append": 5, "compact": 10,
    "session": 2, "group": 2, "join": 8, "leave": 3, "rejoin": 3, "drop": 2, "shed": 1,
    "pin": 3, "unpin": 1, "hint": 2, "tick": 1,
    "cycles": 3, "collect": 6, "major": 6, "verify": 1,
}  # fmt: skip
HOST_WEIGHTS = {"restore": 12, "give_way": 6, "come_back": 6, "forget": 2, "refill": 4, "copy_step": 4}
DISK_WEIGHTS = {"save": 20, "seek": 20, "hand_over": 16, "disk": 24, "news": 24, "lose": 1}
PATIENCE = 8  # times its length that a walk goes on for what it is to come upon


def operations(shape: Shape, seed: int) -> Iterator[Operation]:
    """An endless stream of operations."""
    rng = np.random.default_rng(seed)
    table = {**WEIGHTS, **(HOST_WEIGHTS if shape.host else {}), **(DISK_WEIGHTS if shape.disk else {})}
    names, weights = list(table), np.array(list(table.values()))
    weights[names.index("compact")] *= shape.compacts and not shape.host  # there it comes just before a step
    while True:
        chosen = rng.choice(len(names), 256, p=weights / weights.sum())
        for at, numbers in zip(chosen.tolist(), rng.integers(0, 1 << 16, (256, 3)).tolist(), strict=True):
            yield (names[at], *numbers)


def over(world: World, count: int, unseen: set[str]) -> bool:
    """Whether ``count`` operations had something to do and nothing is unseen, or ``PATIENCE`` times as many had."""
    return world.done >= count and (not unseen or world.done >= PATIENCE * count)


def walk(
    shape: Shape, seed: int, count: int, unseen: Callable[[World], set[str]] = lambda _: set(), every: int = 1
) -> tuple[World, list[Operation]]:
    """Do operations until the walk is ``over``, with every law checked after each, or each so many, and in the end."""
    world, log = World(shape), []
    for operation in operations(shape, seed):
        if over(world, count, unseen(world)):
            break
        log.append(operation)
        done = world.done
        world.apply(operation)
        if world.done > done and world.done % every == 0:
            world.inspect()
    world.inspect()
    return world, log


def replay(shape: Shape, log: list[Operation]) -> World:
    """Do the operations of a log on a fresh heap, every law checked after each."""
    world = World(shape)
    for operation in log:
        world.apply(operation)
        world.inspect()
    return world
