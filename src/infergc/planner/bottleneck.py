"""Which resource holds the load back: the one that gives most when there is twice as much of it."""

from collections.abc import Mapping

from infergc.planner.advice import MUCH
from infergc.planner.cases import Case

RESOURCES = {  # name of the case → resource
    "double_pool": "KV storage",
    "double_compute": "compute",
    "double_bandwidth": "memory bandwidth",
    "double_speed": "speed of the machine",  # a calibration does not tell computing from reading
}
NOTHING = "nothing that can be doubled alone"


def gains(base: Case, cases: Mapping[str, Case]) -> dict[str, float]:
    """Resource → requests a second more when there is twice as much of it, as a share."""
    return {words: cases[name].rate_gain(base) for name, words in RESOURCES.items() if name in cases}


def bottleneck(gained: Mapping[str, float]) -> str:
    """The resource that gives most; ``NOTHING`` where none gives much."""
    best = max(gained, key=lambda resource: gained[resource], default=NOTHING)
    return best if gained.get(best, 0.0) >= MUCH else NOTHING
