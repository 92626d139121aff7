"""Loads the compiled kernels and declares their C functions; built by the project's setup.py."""

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch

PATH = Path(__file__).with_name("libkernels.so")
BUILD = "python setup.py build_ext --inplace"  # in a checkout; an installed package is installed again

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # as Dtype in kernels.hpp

_TEST_ONLY = frozenset({"emulated512"})
_I32_ARRAY = POINTER(c_int32)
_FUNCTIONS: dict[str, tuple[object, list[object]]] = {  # name → result, arguments; as in *_api.cpp and variants.cpp
    "infergc_variant": (c_char_p, [c_int]),
    "infergc_variant_runs": (c_int, [c_int]),
    "infergc_pool": (c_void_p, [c_int]),
    "infergc_pool_free": (None, [c_void_p]),
    "infergc_engine": (c_void_p, [*[c_int] * 6, c_void_p]),
    "infergc_engine_free": (None, [c_void_p]),
    "infergc_plan": (c_void_p, [c_void_p, c_int, c_int, *[_I32_ARRAY] * 5, POINTER(c_int)]),
    "infergc_plan_free": (None, [c_void_p]),
    "infergc_write": (c_int, [*[c_void_p] * 4, c_int64, c_int64, c_void_p, c_void_p, c_int64]),
    "infergc_attend": (
        c_int,
        [*[c_void_p] * 3, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_float, c_int],
    ),
    "infergc_dense": (c_void_p, [c_int, c_int, c_void_p]),
    "infergc_dense_free": (None, [c_void_p]),
    "infergc_packed_bytes": (c_int64, [c_void_p, c_int, c_int]),
    "infergc_pack": (None, [c_void_p, c_void_p, c_int, c_int, c_void_p]),
    "infergc_linear": (c_int, [c_void_p, c_void_p, c_int64, c_int, c_int, c_int, *[c_void_p] * 3]),
    "infergc_embed": (c_int, [c_void_p, c_void_p, c_int, c_int, c_int, c_void_p, c_void_p]),
    "infergc_add_norm": (None, [*[c_void_p] * 4, c_float, c_int, c_int, c_void_p]),
    "infergc_silu_mul": (None, [c_void_p, c_void_p, c_int, c_int, c_void_p]),
    "infergc_stack": (c_void_p, [c_void_p] * 4),
    "infergc_stack_free": (None, [c_void_p]),
    "infergc_stack_run": (c_int, [*[c_void_p] * 3, c_int, *[c_void_p] * 4]),
    "infergc_rotate": (None, [c_void_p, c_void_p, c_int64, *[c_int] * 4, *[c_void_p] * 4, c_float]),
}


class LibraryMissingError(RuntimeError):
    """The kernels were not compiled, or cannot be loaded here; the message says how to build them."""


@cache
def load() -> ctypes.CDLL:
    """Load the library and declare its functions.

    Raises:
        LibraryMissingError: there is none for this machine.
    """
    if not PATH.exists():
        raise LibraryMissingError(f"the C++ kernels are not compiled; `{BUILD}` does it")
    try:
        library = ctypes.CDLL(str(PATH))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise LibraryMissingError(f"{PATH.name} does not load ({error}); `{BUILD}` builds it anew") from None
    return library


def variants() -> dict[str, bool]:
    """List the instruction sets compiled in, fastest first, and whether this machine runs each.

    The last on x86, ``emulated512``, is the AVX-512-BF16 source lowered to AVX2: tests use it, nothing else.
    """
    library = load()
    found: dict[str, bool] = {}
    while (name := library.infergc_variant(len(found))) is not None:
        found[name.decode()] = bool(library.infergc_variant_runs(len(found)))
    return found


def choose_variant(isa: str) -> tuple[str, int]:
    """An instruction set's name and its index in the library; "auto" is the fastest that runs here.

    Raises:
        ValueError: that instruction set is unknown or does not run here.
    """
    known = variants()
    usable = [name for name, runs in known.items() if runs]
    if isa == "auto":
        isa = next(name for name in usable if name not in _TEST_ONLY)
    if isa not in usable:
        raise ValueError(f"instruction set {isa!r} does not run here; these do: {', '.join(usable)}")
    return isa, list(known).index(isa)
