"""Step plans made of rows, for tests of what a step costs."""

import numpy as np

from infergc.sched.plan import StepPlan


def step_plan(rows: list[tuple[int, int, bool]]) -> StepPlan:
    """A step of rows (start, count, sampled), without tables."""
    starts, counts, sample = zip(*rows, strict=True)
    return StepPlan(
        step=0,
        slots=np.arange(len(rows), dtype=np.int32),
        starts=np.array(starts, np.int32),
        counts=np.array(counts, np.int32),
        token_ids=np.zeros(sum(counts), np.int32),
        sample=np.array(sample),
        tables=(),
    )


def decodes(rows: int, context: int) -> StepPlan:
    """Rows that each compute one token after a context of so many."""
    return step_plan([(context, 1, True)] * rows)
