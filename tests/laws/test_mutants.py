"""The checks catch planted bugs, each under the name of the law it breaks: they do not merely agree with themselves."""

from functools import cache

import pytest

from infergc.heap.errors import HeapCorruption
from laws import mutants_wholes  # noqa: F401 - it registers its mutants
from laws.mutants import MUTANTS, Mutant
from laws.oracle import LawBroken
from laws.shapes import SHAPES
from laws.walk import replay, walk
from laws.world import Operation

_COUNT = 700  # operations of the scenario
_SHAPES = {shape.name: shape for shape in SHAPES}


@cache
def _scenario(shape: str) -> list[Operation]:
    """A walk on which the heap as it is keeps every law."""
    _, log = walk(_SHAPES[shape], 5, _COUNT)
    return log


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.law}-{mutant.name}")
def test_a_planted_bug_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    log = _scenario(mutant.shape)
    mutant.plant(monkeypatch)
    with pytest.raises((HeapCorruption, LawBroken), match=rf"\blaw {mutant.law}\b"):
        replay(_SHAPES[mutant.shape], log)


def test_every_law_has_a_mutant() -> None:
    assert {mutant.law for mutant in MUTANTS} == set(range(1, 10))  # law 10: test_replay.py
