"""The checks catch planted bugs, each under the name of the law it breaks: they do not merely agree with themselves."""

import re
from functools import cache

import pytest

from infergc.heap.errors import HeapCorruption
from laws import mutants_kept, mutants_tenants, mutants_tiers, mutants_wholes  # noqa: F401 - they register their mutants
from laws.mutants import MUTANTS, Mutant
from laws.oracle import LawBroken
from laws.shapes import SHAPES, TIERED
from laws.walk import replay, walk
from laws.world import Operation
from samples.lengths import at_length

_COUNT = 700  # operations of a scenario
_SEEDS = range(5, 13)  # of scenarios, tried one after the other: few bugs need more than the first
_SHAPES = {shape.name: shape for shape in (*SHAPES, *TIERED)}


@cache
def _scenario(shape: str, seed: int) -> list[Operation]:
    """A walk on which the heap as it is keeps every law."""
    _, log = walk(_SHAPES[shape], seed, _COUNT, every=at_length(20, 1))
    return log


def _consequence(mutant: Mutant, seed: int, patch: pytest.MonkeyPatch) -> str:
    """What is said of the planted bug; "" if it goes unnoticed."""
    log = _scenario(mutant.shape, seed)
    with patch.context() as planted:
        mutant.plant(planted)
        try:
            replay(_SHAPES[mutant.shape], log)
        except (HeapCorruption, LawBroken) as error:
            return str(error)
        except (KeyError, IndexError) as error:  # it fell over its own bug before the laws were looked at
            return repr(error)
    return ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.law}-{mutant.name}")
def test_a_planted_bug_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for seed in _SEEDS:
        said.append(_consequence(mutant, seed, monkeypatch))
        if re.search(rf"\blaw {mutant.law}\b", said[-1]):
            return
    pytest.fail(f"law {mutant.law} was not named in {said}")


def test_every_law_has_a_mutant() -> None:
    assert {mutant.law for mutant in MUTANTS} == set(range(1, 10))  # law 10: test_replay.py
