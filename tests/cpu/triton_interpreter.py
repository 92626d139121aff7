"""Triton's kernels under its interpreter, for tests on machines without a GPU.

Triton reads TRITON_INTERPRET when it and the kernels are imported, and never again for them. So this is imported
before anything else that imports them, which every collection does: test modules import it at their top, and
nothing else in the suite imports Triton at import. The variable is set for the imports only, and so no process
that other tests start has it.
"""

import os
import sys

_BEFORE = os.environ.get("TRITON_INTERPRET")
os.environ["TRITON_INTERPRET"] = "1"
try:
    if "triton" in sys.modules or "infergc.kernels.triton.environment" in sys.modules:
        raise RuntimeError("Triton was imported before the interpreter could be asked for")
    import triton.experimental.gluon  # noqa: F401 - what a first launch would import, too late
    from triton.runtime import interpreter

    from infergc.kernels.triton import kernels  # noqa: F401 - decorated now
    from infergc.kernels.triton.backend import TritonAttention
    from infergc.kernels.triton.moving import independent, move_pages
finally:
    del os.environ["TRITON_INTERPRET"]
    if _BEFORE is not None:
        os.environ["TRITON_INTERPRET"] = _BEFORE

# A third of the interpreter's time: what it computes for assertions that it then does not make without its debug mode.
interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)

__all__ = ["TritonAttention", "independent", "move_pages"]
