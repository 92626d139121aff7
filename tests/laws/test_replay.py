"""Law 10: the same operations give the same heap, in another process and under another hash seed as well."""

import os
import random
import subprocess
import sys

import pytest

from infergc.policies.retention.lru import Lru
from laws.digest import digest
from laws.oracle import dump
from laws.shapes import SHAPES, Shape
from laws.walk import replay, walk
from laws.world import World

_COUNT = 250  # operations done twice
_SEED = 11


def _state(world: World) -> tuple[object, ...]:
    return dump(world.heap), world.moves


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_replay_gives_the_same_heap(shape: Shape) -> None:
    world, log = walk(shape, _SEED, _COUNT)
    assert _state(replay(shape, log)) == _state(world)


def test_another_process_with_another_hash_seed_agrees() -> None:
    command = [sys.executable, "-m", "laws.digest", str(_SEED), str(_COUNT)]
    env = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(shape, _SEED, _COUNT) for shape in SHAPES[:3]]


def test_an_order_by_chance_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    _, log = walk(SHAPES[0], _SEED, 600)
    states = []
    for _ in range(8):  # two of them may agree, as few orders matter
        salt = random.random()  # noqa: S311 - the planted mistake
        monkeypatch.setattr(Lru, "rank", lambda _, node, salt=salt: hash((salt, node.id)))
        states.append(_state(replay(SHAPES[0], log)))
    assert any(state != states[0] for state in states[1:])


def test_an_order_by_identity_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    _, log = walk(SHAPES[0], _SEED, 600)
    monkeypatch.setattr(Lru, "rank", lambda _, node: id(node) // 16 % 101)
    worlds = [replay(SHAPES[0], log) for _ in range(5)]  # all alive: no address is used twice; two may agree
    assert any(_state(world) != _state(worlds[0]) for world in worlds[1:])
