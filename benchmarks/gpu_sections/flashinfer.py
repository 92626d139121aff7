"""FlashInfer's attention: built, beside the reference at the shapes that are measured, and measured as Triton's is.

It has a section of its own, for what it does at its first launch may take minutes: it compiles.
"""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gpu_sections.attention import FULL, QUICK, needs_of, of_backend
from gpu_sections.backends import Candidate, candidate
from gpu_sections.checks import BORDERS, MIXED, SMALL, Differs, begun, beside, built, checked
from infergc.bench.gpu.figure import Figure, left_out
from infergc.bench.gpu.section import Setting


def measure(setting: Setting) -> Iterator[Figure]:
    """Build, check, measure."""
    found = candidate("flashinfer")
    if found.absent:
        yield left_out("all", found.absent)
        return
    if found.refuses(needs_of(setting)):
        yield left_out("all", "it does not take this model")
        return
    build = named(begun(f"build, {found.name}", partial(built, setting, found), setting))
    yield build
    if build.value is None:
        return
    what = f"attention, {found.name}"
    yield begun(what, lambda: checked(what, cases(setting, found), setting), setting)
    yield from of_backend(found, QUICK if setting.quick else FULL, setting)


def cases(setting: Setting, found: Candidate) -> Iterator[tuple[str, Differs]]:
    """The one shape that is measured: lengths in all mixtures, and at borders."""
    for name, spans in (("small", SMALL),) if setting.quick else (("mixed", MIXED), ("borders", BORDERS)):
        yield name, partial(beside, found, needs_of(setting), spans, None)


def named(build: Figure) -> Figure:
    """What could not be built because a tool is missing is skipped by the tool's name."""
    tool = missing_tool()
    if not build.failed or not tool:
        return build
    return left_out(build.what, f"{tool} is not installed, and it had to compile ({build.failed})")


def missing_tool() -> str:
    """What is needed to compile and is not there; "" if all is."""
    homes = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    if shutil.which("nvcc") is None and not any((Path(home) / "bin" / "nvcc").is_file() for home in homes if home):
        return "nvcc"
    return "" if shutil.which("ninja") else "ninja"
