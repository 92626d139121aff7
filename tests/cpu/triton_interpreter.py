"""Triton's kernels under its interpreter, for tests on machines without a GPU.

Triton reads TRITON_INTERPRET where kernels are decorated, so tests/conftest.py sets it before anything is imported.
"""

import pytest

from infergc.kernels.triton import environment

if not environment.INTERPRETED:
    pytest.skip("Triton compiles its kernels here: tests/gpu has them", allow_module_level=True)

import triton.experimental.gluon  # noqa: F401 - what a first launch would import, too late
from triton.runtime import interpreter

from infergc.kernels.triton import kernels  # noqa: F401 - decorated now
from infergc.kernels.triton.backend import TritonAttention
from infergc.kernels.triton.dense import TritonOps
from infergc.kernels.triton.moving import move_pages

# A third of the interpreter's time: what it computes for assertions that it then does not make without its debug mode.
interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)

__all__ = ["TritonAttention", "TritonOps", "move_pages"]
