"""What is done to a workload before it is run: slower arrivals, fewer requests."""

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

from infergc.sim.requests import TraceRequest


def scale_arrivals(requests: Iterable[TraceRequest], factor: float) -> list[TraceRequest]:
    """Let requests come ``factor`` times as late: 2 halves the rate, 0 lets all come at once.

    Raises:
        ValueError: the factor is negative or not finite.
    """
    if not (isfinite(factor) and factor >= 0):
        raise ValueError(f"factor: {factor} is not allowed; it must be a finite number ≥ 0")
    return [replace(request, arrival=request.arrival * factor) for request in requests]


def first(requests: Iterable[TraceRequest], count: int) -> list[TraceRequest]:
    """The first ``count`` requests, or all if there are fewer.

    Raises:
        ValueError: the count is negative.
    """
    if count < 0:
        raise ValueError(f"count: {count} is not allowed; it must be ≥ 0")
    return [request for request, _ in zip(requests, range(count), strict=False)]


def between(requests: Iterable[TraceRequest], low: int, high: int) -> list[TraceRequest]:
    """Those whose prompt has ``low`` to ``high`` tokens, both included. They keep their arrivals and their blocks.

    Raises:
        ValueError: no length lies between.
    """
    if low > high:
        raise ValueError(f"low: {low} is not allowed; it must be ≤ high, which is {high}")
    return [request for request in requests if low <= request.input_len <= high]
