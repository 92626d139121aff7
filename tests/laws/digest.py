"""Prints digests of heaps after seeded walks: ``python -m laws.digest SEED COUNT``."""

import sys
from hashlib import sha256

from laws.oracle import dump
from laws.shapes import SHAPES, Shape
from laws.walk import walk


def digest(shape: Shape, seed: int, count: int) -> str:
    """Digest of all that a heap holds, and of the moves it asked for."""
    world, _ = walk(shape, seed, count)
    return sha256(repr((dump(world.heap), world.moves)).encode()).hexdigest()


if __name__ == "__main__":
    for each in SHAPES[:3]:
        sys.stdout.write(digest(each, int(sys.argv[1]), int(sys.argv[2])) + "\n")
