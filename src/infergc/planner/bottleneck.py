"""Which resource holds the load back: the one that gives most when there is twice as much of it."""

from collections.abc import Mapping
from math import inf

from infergc.planner.advice import MUCH
from infergc.planner.cases import Case

RESOURCES = {  # name of the case → resource
    "double_pool": "KV storage",
    "double_compute": "compute",
    "double_bandwidth": "memory bandwidth",
    "double_speed": "speed of the machine",  # a calibration does not tell computing from reading
}
NOTHING = "nothing that can be doubled alone"
UNTOLD = "cannot be told: a run has too few requests"


def gains(base: Case, cases: Mapping[str, Case], *, splits: bool) -> dict[str, float | None]:
    """Resource → requests a second more when there is twice as much of it, as a share; None if it cannot be told.

    Args:
        base: as asked.
        cases: what else was tried.
        splits: whether the machine's computing and reading can be told apart.
    """
    names = ("double_pool", "double_compute", "double_bandwidth") if splits else ("double_pool", "double_speed")
    return {RESOURCES[name]: cases[name].rate_gain(base) if name in cases else None for name in names}


def bottleneck(gained: Mapping[str, float | None]) -> str:
    """The resource that gives most; ``NOTHING`` where none gives much; ``UNTOLD`` where that cannot be known."""
    known = {resource: gain for resource, gain in gained.items() if gain is not None}
    best = max(known, key=lambda resource: known[resource], default=UNTOLD)
    untold = [resource for resource in gained if resource not in known]
    if known.get(best, -inf) < MUCH:
        return UNTOLD if untold else NOTHING
    return f"{best}; of {' and '.join(untold)} it cannot be told" if untold else best
