"""Every retention policy under random operations, every law checked after each; and the same walk again."""

from dataclasses import replace

import pytest

from infergc.engine.assembly import RETENTIONS
from infergc.heap.retention import Retention
from laws.oracle import dump
from laws.shapes import SHAPES, Shape
from laws.walk import replay, walk

_OPERATIONS = 250


@pytest.mark.parametrize("name", RETENTIONS)
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[6]], ids=lambda shape: shape.name)
def test_laws_hold_and_walks_repeat_whatever_stays(name: str, shape: Shape) -> None:
    retention: type[Retention] = RETENTIONS[name]  # type: ignore[assignment]
    shape = replace(shape, retention=retention)
    world, log = walk(shape, 5, _OPERATIONS)
    assert world.heap.counters.evicted > 0
    assert dump(replay(shape, log).heap) == dump(world.heap)
