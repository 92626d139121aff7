"""Loads the compiled kernels and declares their C functions; built by the project's setup.py."""

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("libattention.so")
BUILD = "python setup.py build_ext --inplace"  # in a checkout; an installed package is installed again

_I32_ARRAY = POINTER(c_int32)
_FUNCTIONS: dict[str, tuple[object, list[object]]] = {  # name → result, arguments; as in library.cpp
    "infergc_variant": (c_char_p, [c_int]),
    "infergc_variant_runs": (c_int, [c_int]),
    "infergc_engine": (c_void_p, [c_int] * 7),
    "infergc_engine_free": (None, [c_void_p]),
    "infergc_plan": (c_void_p, [c_void_p, c_int, c_int, *[_I32_ARRAY] * 5, POINTER(c_int)]),
    "infergc_plan_free": (None, [c_void_p]),
    "infergc_write": (c_int, [*[c_void_p] * 4, c_int64, c_int64, c_void_p, c_void_p, c_int64]),
    "infergc_attend": (
        c_int,
        [*[c_void_p] * 3, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_float, c_int],
    ),
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
