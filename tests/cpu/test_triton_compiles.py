"""Triton's kernels, compiled to machine code for GPUs that need not be there.

It shows that the compiler takes what the interpreter takes, that matrix units are used, and that loops keep in
registers what they hold. Whether results are right on a GPU, only a GPU shows (tests/gpu).
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from samples.lengths import at_length

KERNELS = [
    "write_tokens", "attend_long_rows", "attend_short_rows", "merge_short_rows", "copy_pages",
    "add_and_norm", "silu_and_multiply", "rotate_head",
]  # fmt: skip
SHARED = {80: 163 << 10, 90: 227 << 10}  # bytes of shared memory that a program may have
SPILLED = {80: 320, 90: 96}  # bytes of registers of a thread, as found with Triton 3.6 to 3.9; tiles are chosen for 90

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


FEW = [("bfloat16", 128, 90), ("float16", 80, 90)]
ALL = [*FEW, ("bfloat16", 256, 90), ("float32", 128, 90), ("bfloat16", 128, 80)]


@pytest.mark.parametrize(("dtype", "head_dim", "capability"), at_length(FEW, ALL))
def test_kernels_compile(tmp_path: Path, dtype: str, head_dim: int, capability: int) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("compile_launches.py"), dtype, str(head_dim), str(capability)],
        capture_output=True,
        text=True,
        check=False,
        env=environ | {"TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    made = {told["kernel"]: told for told in map(json.loads, done.stdout.splitlines())}
    assert list(made) == KERNELS
    assert all(told["shared"] <= SHARED[capability] for told in made.values())
    if dtype != "float32":
        assert all(told["spilled"] <= SPILLED[capability] for told in made.values()), made
        assert made["attend_long_rows"]["wgmma"] == (capability == 90)
        assert not made["attend_short_rows"]["wgmma"]
    assert not any(made[name]["spilled"] for name in KERNELS[-4:])
