"""One uniform number per (seed, position): a counter-based generator without state.

A draw depends on nothing but the request's seed and the absolute position of the token, so it is the
same alone and in a batch, before and after a preemption, and costs nothing to restore.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the stride of SplitMix64
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.integer]) -> NDArray[np.float64]:
    """Numbers in [0, 1) with 53 random bits, one for each pair of seed and position.

    SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"): output
    number ``position`` of the stream whose state is the mixed seed.
    """
    with np.errstate(over="ignore"):
        counter = positions.astype(np.uint64) + np.uint64(1)
        bits = _mix(_mix(seeds) + counter * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: a bijection of 64 bits in which every input bit moves half the output bits."""
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))
