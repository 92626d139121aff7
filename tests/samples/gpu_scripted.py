"""Engines that are made to write texts, on two devices: how likely each found every token of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cpu.test_evaluation_forced import config_for
from infergc.engine.assembly import assemble, load_executor
from infergc.engine.loop import Engine
from infergc.engine.scripts import Continuation, Script
from infergc.sched.branches import branch_seed
from infergc.worker.forced import force
from samples.engines import Results, run, submit

GPU: dict[str, Any] = {"device": "cuda"}
NATS = 1e-3  # in float32: sums of a few hundred products in another order


@contextmanager
def scripted(directory: Path, **settings: Any) -> Iterator[tuple[Engine, Script]]:
    """An engine in this process that follows a script."""
    config = config_for(directory, **settings)
    executor = load_executor(config)
    script = force(executor)
    engine = assemble(config, executor)
    try:
        yield engine, script
    finally:
        engine.close()


def choices(
    engine: Engine, script: Script, prompt: Sequence[int], texts: Sequence[Sequence[int]]
) -> tuple[list[np.ndarray], Results]:
    """Log probabilities [N, V] of texts that one request writes as its choices, and what it wrote."""
    seed, rows = 5, [np.full((len(text), engine.ready.vocab_size), np.nan, np.float32) for text in texts]
    for index, text in enumerate(texts):
        script[branch_seed(seed, index)] = Continuation(np.array(text, np.int32), rows[index].__setitem__)
    results = run(
        engine, [submit("c", list(prompt), n=len(texts), max_tokens=len(texts[0]), ignore_eos=True, seed=seed)]
    )
    return rows, results
