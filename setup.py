"""Builds the CPU kernels; everything else about the package is in pyproject.toml.

One library, no Python headers and no torch headers: each instruction set's kernels are the same source,
compiled with flags of its own; which of them runs is decided when the library is loaded. A compiler that
lacks an instruction set leaves that one out, and a machine with no C++ compiler installs without the library:
torch then computes instead, slowly, and the engine says so.

In place, for work on the kernels: ``python setup.py build_ext --inplace``.
"""

import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

SOURCES = Path("src/infergc/kernels/cpu")
KERNELS = ("attention.cpp", "linear.cpp", "rows.cpp")  # compiled once for each instruction set
LIBRARY = ("attention_api.cpp", "dense_api.cpp", "stack_api.cpp", "variants.cpp")
COMMON = ["-std=c++17", "-O3", "-fPIC", "-g0", "-fvisibility=hidden", "-ffp-contract=fast", "-Wall", "-Wno-psabi"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]


@dataclass(frozen=True)
class Variant:
    """One compilation of the kernels: an instruction set."""

    name: str
    lanes: int  # floats in a vector
    flags: list[str]
    pairs: int = 0  # whether bfloat16 scores multiply pairs

    @property
    def defines(self) -> list[str]:
        """What the source is told."""
        return [f"-DLANES={self.lanes}", f"-DVARIANT={self.name}", f"-DPAIRS={self.pairs}"]


PORTABLE = Variant("portable", 4, [])
X86 = [
    # the widest variant's source on AVX2, for tests on machines without AVX-512
    Variant("emulated512", 16, AVX2, pairs=1),
    Variant("avx2", 8, AVX2),
    Variant("avx512", 16, AVX2 + AVX512),
    Variant("avx512bf16", 16, [*AVX2, *AVX512, "-mavx512bf16"], pairs=1),
]


class BuildKernels(build_ext):
    """Compiles the variants that the compiler knows, and links them with the library."""

    def get_ext_filename(self, fullname: str) -> str:
        """Name the library without Python's version: nothing in it depends on that."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Build, or explain why there will be no kernels."""
        Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)  # nothing stale if this fails
        try:
            self._build(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            print(
                f"\nWARNING: the CPU kernels were not built ({error}).\n"
                "Torch will compute instead, which is slow. To build them, install a C++17\n"
                "compiler (gcc 12 or later, or clang 15 or later) and install the package again.\n",
                file=sys.stderr,
            )

    def _build(self, ext: Extension) -> None:
        x86 = X86 if platform.machine().lower() in {"x86_64", "amd64"} else []
        with ThreadPoolExecutor() as pool:
            wide = list(pool.map(self._try_variant, x86))
            objects = self._compile(KERNELS, PORTABLE.name, PORTABLE.defines)
        found = [f"-DINFERGC_{variant.name.upper()}" for variant, made in zip(x86, wide, strict=True) if made]
        objects += self._compile(LIBRARY, "library", found)
        objects += [path for made in wide for path in made]
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(target), extra_postargs=["-pthread"], target_lang="c++")

    def _try_variant(self, variant: Variant) -> list[str]:
        try:
            return self._compile(KERNELS, variant.name, [*variant.flags, *variant.defines])
        except CCompilerError:
            print(f"WARNING: this compiler lacks {variant.flags[-1]}: no kernels for it", file=sys.stderr)
            return []

    def _compile(self, sources: tuple[str, ...], name: str, flags: list[str]) -> list[str]:
        folder = Path(self.build_temp) / name
        return self.compiler.compile(
            [str(SOURCES / source) for source in sources],
            output_dir=str(folder),
            extra_postargs=[*COMMON, *flags],
            depends=[str(path) for path in SOURCES.glob("*.hpp")],
        )


setup(
    ext_modules=[Extension("infergc.kernels.cpu.libkernels", [str(SOURCES / LIBRARY[0])], optional=True)],
    cmdclass={"build_ext": BuildKernels},
)
