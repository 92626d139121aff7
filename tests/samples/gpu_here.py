"""Whether the tests of this folder can run here, and why not.

Run them by themselves (``pytest tests/gpu``): a process in which Triton's kernels are interpreted compiles none.
"""

import pytest
import torch

from infergc.kernels.registry import why_not_compiled

_NONE = None if torch.cuda.is_available() else "torch sees no CUDA device"
_WHY_NOT = _NONE or why_not_compiled()
needs_kernels = pytest.mark.skipif(_WHY_NOT is not None, reason=_WHY_NOT or "")
needs_gpu = pytest.mark.skipif(_NONE is not None, reason=_NONE or "")
