"""Whether FlashInfer can run in this process. The library itself is not imported for the answer."""

from importlib.util import find_spec

import torch

from infergc.kernels.triton import environment as triton


def unavailable() -> str | None:
    """Why the backend cannot run on this machine at all; None when it can.

    What Triton's kernels need is needed here as well: one of them writes, and both want the same matrix units.
    """
    if find_spec("flashinfer") is None:
        return "flashinfer is not installed; pip install 'infergc[flashinfer]' (on Linux)"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if triton.INTERPRETED:
        return "TRITON_INTERPRET is set, and Triton's kernel that writes for this backend has to be compiled"
    return triton.unavailable()
