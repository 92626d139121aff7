"""The step plan: plain arrays that say what one step computes, and the outcome that comes back.

Shapes: S rows (sequences scheduled), T tokens of all rows, E extents of the longest table.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infergc.heap.moves import I32, Move, PageTable
from infergc.params import SamplingParams

__all__ = [
    "FROM_DEVICE",
    "I32",
    "MAX_REPORTED",
    "Binding",
    "Move",
    "PageTable",
    "StepOutcome",
    "StepPlan",
    "TokenLogprobs",
]

MAX_REPORTED = 256  # likeliest tokens reported for a row: what beam searches are bounded by
FROM_DEVICE = -1  # in StepPlan.token_ids: the token that the step in flight samples for this slot


@dataclass(frozen=True, slots=True)
class Binding:
    """A slot now belongs to this request: the worker resets the slot's sampler state to it.

    ``output`` is empty for a new request and holds what was generated before a preemption otherwise. ``reported``
    is how many likeliest tokens a beam search needs reported, 0 where what ``params`` ask for is enough; ``told``
    at how many positions of the prompt the next token's log probability was reported before, where that is asked for.
    """

    slot: int
    params: SamplingParams
    prompt: I32
    output: I32
    reported: int = 0
    told: int = 0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step. Rows are in scheduling order; a row computes positions start … start + count - 1."""

    step: int
    slots: I32  # [S] row of worker state
    starts: I32  # [S]
    counts: I32  # [S] ≥ 1
    token_ids: I32  # [T] inputs of all rows, concatenated; FROM_DEVICE where not known yet
    sample: NDArray[np.bool_]  # [S] whether the row's last position is sampled
    tables: tuple[PageTable, ...]  # one per layer group
    moves: tuple[Move, ...] = ()
    bindings: tuple[Binding, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens computed in this step, over all rows."""
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probabilities (natural, after penalties and bias, before temperature and truncation) at a position."""

    sampled: float
    rank: int  # 1 is the likeliest
    top_ids: tuple[int, ...]  # likeliest first
    top: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a step gave: one sampled token a row, -1 where ``plan.sample`` is false or the row is at fault.

    ``prompts`` has row → reports of the prompt's tokens after those the step computed, in order, where asked for.
    """

    step: int
    tokens: I32  # [S]
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)  # row → report, where asked for
    seconds: float = 0.0  # time the worker was busy: a logged input, as the two that follow
    copied_bytes: int = 0  # between device and host
    copy_seconds: float = 0.0
    errors: dict[int, str] = field(default_factory=dict)  # row → why its request, and no other, cannot go on
    prompts: dict[int, list[TokenLogprobs]] = field(default_factory=dict)
