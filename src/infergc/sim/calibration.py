"""Step times of one machine and model as measured: a piecewise linear cost, its file, and how it is fitted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infergc.config import ConfigError
from infergc.sched.plan import StepPlan
from infergc.sim.geometry import Geometry
from infergc.sim.least_squares import F64, least_squares
from infergc.sim.work import StepWork, work_of
from infergc.wording import fault

KNOTS = (1, 4, 16, 64, 256)  # tokens of a step between which each more costs the same
COPY_RATE = 5e9  # bytes a second: both tiers lie in the memory of the machine that computes
_PIECES = tuple(f"token_over_{knot}" for knot in KNOTS)
TERMS = (
    "step",
    *_PIECES,
    "sampled_row",
    "row",
    "chunk_pair",
    "chunk_position",
    "decode_position",
)

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class HeldOut(BaseModel):
    """How far predictions were off on a load that was not fitted to.

    Attributes:
        steps: with different work.
        median, p90: of |predicted - measured| / measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    median: Seconds
    p90: Seconds


class Calibration(BaseModel):
    """What was measured, of what, where and when.

    Attributes:
        format: of the file.
        model: whose steps were measured; its name, and the shape that a cost follows from.
        digest: of its weights and settings.
        backend, threads, page_tokens: what computed it.
        machine: in words.
        software: the engine's version.
        date: of the measurement, as 2026-11-21.
        terms: seconds for each unit of each of ``TERMS``.
        held_out: the error on another load.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: Literal[1] = 1
    model: Geometry
    digest: str
    backend: str
    threads: int = Field(ge=1)
    page_tokens: int = Field(ge=1)
    machine: str
    software: str
    date: str
    terms: dict[str, Seconds]
    held_out: HeldOut

    @model_validator(mode="after")
    def _check_terms(self) -> "Calibration":
        wrong = sorted(set(TERMS) ^ set(self.terms))
        if wrong:
            raise ValueError(f"terms: {', '.join(wrong)} is missing or unknown; there are {', '.join(TERMS)}")
        return self


def read_calibration(file: Path) -> Calibration:
    """Read what ``infergc bench calibrate --json`` wrote.

    Raises:
        ConfigError: the file cannot be read, or a field is missing or wrong; the message names it.
    """
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--device: {file} is not a readable JSON object: {error}") from None
    try:
        return Calibration.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"--device: {file}: {where + ': ' if where else ''}{fault(problem)}") from None


class CalibratedCost:
    """Predicts the steps of the machine and model that were calibrated. Implements ``sim.cost.CostModel``.

    Args:
        terms: seconds for each unit of each of ``TERMS``.
        model: whose steps they are.
    """

    def __init__(self, terms: dict[str, float], model: Geometry) -> None:
        self._seconds = [terms[name] for name in TERMS]
        self._windows = model.window_layers

    def seconds(self, plan: StepPlan) -> float:
        """See ``sim.cost.CostModel``."""
        return self.of(work_of(plan, self._windows))

    def copying(self, size: int) -> float:
        """See ``sim.cost.CostModel``: not measured, but what one thread copies within memory."""
        return size / COPY_RATE

    def of(self, work: StepWork) -> float:
        """Seconds of a step with this work."""
        return sum(each * units for each, units in zip(self._seconds, units_of(work), strict=True))


def units_of(work: StepWork) -> list[float]:
    """How many units of each of ``TERMS`` a step has.

    A step's tokens are cut at ``KNOTS``: the products of a CPU pass from reading weights to computing, and what one
    more token costs changes on the way. With no coefficient below zero, a step is never cheaper for more work.
    """
    upper = (*KNOTS[1:], work.tokens)
    pieces = [max(0, min(work.tokens, high) - low) for low, high in zip(KNOTS, upper, strict=True)]
    attention = (work.chunk_pairs, work.chunk_positions, work.decode_positions)
    return [1.0, *pieces, work.sampled, work.rows, *attention]


def fit(works: Sequence[StepWork], seconds: Sequence[float]) -> dict[str, float]:
    """Seconds for each unit of each of ``TERMS``, such that the relative errors' squares are least, none below zero.

    Args:
        works: of the measured steps.
        seconds: each above 0.
    """
    measured = np.array(seconds)
    terms = np.array([units_of(work) for work in works]) / measured[:, None]
    found = least_squares(terms, np.ones(len(measured)))
    return dict(zip(TERMS, map(float, found), strict=True))


def relative_errors(cost: CalibratedCost, works: Sequence[StepWork], seconds: Sequence[float]) -> F64:
    """|predicted - measured| / measured of each step."""
    measured = np.array(seconds)
    errors: F64 = np.abs(np.array([cost.of(work) for work in works]) - measured) / measured
    return errors
