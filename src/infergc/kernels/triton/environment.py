"""Whether Triton's kernels can run in this process, and how. Triton itself is not imported for the answer."""

import os
from importlib.util import find_spec

import torch

# Triton decides when it is imported whether kernels are compiled or interpreted, and so it is asked once.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in {"1", "true", "on", "yes", "y"}
_OLDEST = (8, 0)  # compute capability: bfloat16 in matrix units, and copies to shared memory that nobody waits for


def unavailable() -> str | None:
    """Why the kernels cannot run on this machine at all; None when they can."""
    if find_spec("triton") is None:
        return "triton is not installed; pip install 'infergc[gpu]' (on Linux)"
    if INTERPRETED:
        return None
    if not torch.cuda.is_available():
        return "torch sees no CUDA device, and without TRITON_INTERPRET=1 kernels are not interpreted"
    if (found := torch.cuda.get_device_capability()) < _OLDEST:
        return (
            f"the GPU's compute capability is {found[0]}.{found[1]}, and at least {_OLDEST[0]}.{_OLDEST[1]} is needed"
        )
    return None
