"""Exact counters of a seeded load: a change that moves one of them says so here.

Regenerate after a deliberate change with ``python -m pytest tests/golden --write-golden`` and explain the new
figures in the commit.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infergc.engine.messages import Submit
from infergc.engine.stats import snapshot
from infergc.heap.groups import GroupSpec
from samples.engines import VOCAB, facts, make_engine, run, submit

GOLDEN = Path(__file__).with_name("counters.json")
GROUPS = {
    "full": (GroupSpec("full", 1000),),
    "full_and_window": (GroupSpec("full", 1000), GroupSpec("window", 600, window=128)),
}


def conversations(count: int = 12, turns: int = 4) -> list[list[Submit]]:
    """Rounds of multi-turn prompts: each turn repeats its conversation so far, all share a system prompt."""
    rng = np.random.default_rng(7)
    system = rng.integers(0, VOCAB, 70).tolist()
    texts = [list(system) for _ in range(count)]
    rounds = []
    for turn in range(turns):
        for text in texts:
            text.extend(rng.integers(0, VOCAB, int(rng.integers(5, 60))).tolist())
        rounds.append(
            [submit(f"c{i}t{turn}", list(text), max_tokens=int(rng.integers(5, 50))) for i, text in enumerate(texts)]
        )
    return rounds


def measure(groups: tuple[GroupSpec, ...], pages: int) -> dict[str, Any]:
    engine = make_engine(facts(groups, max_len=1024), pages=pages, pipeline_depth=2, retention_policy="lru")
    for load in conversations():
        run(engine, list(load), check=False)
    engine.heap.check()
    figures = snapshot(engine.scheduler, engine.counters, engine.pacer, engine.queue)
    return {part: figures[part] for part in ("requests", "kv", "counters")}  # the rest has times


@pytest.mark.parametrize("pages", [50, 120, 400])
@pytest.mark.parametrize("groups", GROUPS)
def test_counters_are_as_recorded(groups: str, pages: int, request: pytest.FixtureRequest) -> None:
    found = measure(GROUPS[groups], pages)
    key = f"{groups}-{pages}"
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--write-golden"):
        GOLDEN.write_text(json.dumps({**known, key: found}, indent=1, sort_keys=True) + "\n")
    else:
        assert found == known[key]
