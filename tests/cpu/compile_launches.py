"""Compile what runs in Triton, for a GPU that need not be there; print what came out, as JSON lines.

Run as a program, with dtype, head dim and compute capability (80, 90): the process must not interpret kernels.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from infergc.kernels.api import AttentionNeeds, BatchLayout, Rotation
from infergc.kernels.triton import dense, moving
from infergc.kernels.triton.backend import TritonAttention
from infergc.sched.plan import PageTable

TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int32: "*i32"}


class Recorder:
    """Stands for all kernels: ``recorder.name[grid](...)`` is a launch of ``name``, and is compiled."""

    def __init__(self, kernels: Any, capability: int) -> None:
        self._kernels, self._capability = kernels, capability

    def __getattr__(self, name: str) -> "Launch":
        return Launch(getattr(self._kernels, name), self._capability)


class Launch:
    def __init__(self, kernel: Any, capability: int) -> None:
        self._kernel, self._capability = kernel, capability

    def __getitem__(self, grid: tuple[int, ...]) -> "Launch":
        return self

    def __call__(self, *args: Any, num_warps: int, num_stages: int = 3, **constants: int) -> None:
        names = self._kernel.arg_names
        given = dict(zip(names, args, strict=False))
        kinds = {float: "fp32", int: "i32"}
        types = {name: TYPES[arg.dtype] if isinstance(arg, torch.Tensor) else kinds[type(arg)]
                 for name, arg in given.items()}  # fmt: skip
        even = [name for name, arg in given.items() if isinstance(arg, torch.Tensor) or name.endswith("_stride")]
        source = ASTSource(
            self._kernel,
            {name: types.get(name, "constexpr") for name in names},
            {(names.index(name),): value for name, value in constants.items()},
            {(names.index(name),): [["tt.divisibility", 16]] for name in even},
        )
        target = GPUTarget("cuda", self._capability, 32)
        made = triton.compile(source, target=target, options={"num_warps": num_warps, "num_stages": num_stages})
        told = {"kernel": self._kernel.__name__, "shared": made.metadata.shared, "wgmma": "wgmma" in made.asm["ptx"]}
        print(json.dumps(told | resources(made.asm["ptx"], self._capability)))


def resources(ptx: str, capability: int) -> dict[str, int]:
    """Registers of a thread, and bytes of them that had to be stored elsewhere, as ptxas says.

    Triton has several, and an older one does not read what is written for a newer: it is asked which it takes.
    """
    (arch,) = re.findall(r"\.target (\w+)", ptx)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [
            get_ptxas(capability).path,
            "-v",
            f"--gpu-name={arch}",
            str(source),
            "-o",
            str(source.with_suffix(".cubin")),
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    (registers,) = re.findall(r"Used (\d+) registers", said)
    (spilled,) = re.findall(r"(\d+) bytes spill stores", said)
    return {"registers": int(registers), "spilled": int(spilled)}


def main(dtype: torch.dtype, head_dim: int, capability: int) -> None:
    needs = AttentionNeeds("cpu", dtype, 8, 2, head_dim, 16)
    attention = TritonAttention(needs)
    attention._kernels = Recorder(attention._kernels, capability)
    moving.copy_pages = Launch(moving.copy_pages, capability)
    for name in ("add_and_norm", "silu_and_multiply", "rotate_head"):
        setattr(dense, name, Launch(getattr(dense, name), capability))
    table = PageTable(np.array([[0], [4]], np.int32), np.array([[4], [1]], np.int32), np.zeros(2, np.int32))
    step = attention.plan(BatchLayout(np.array([0, 3], np.int32), np.array([50, 1], np.int32), table))
    arena_L2NGPD = torch.zeros(1, 2, 5, 2, 16, head_dim, dtype=dtype)
    (k, v), kv = arena_L2NGPD[0], torch.zeros(51, 2, head_dim, dtype=dtype)
    attention.write(step, kv, kv, k, v)
    attention.attend(step, torch.zeros(51, 8, head_dim, dtype=dtype), k, v, head_dim**-0.5, None)
    moving.move_pages(arena_L2NGPD, [0], [1], [16], [1])
    compute_beside(kv.flatten(1), head_dim)


def compute_beside(x_TE: torch.Tensor, head_dim: int) -> None:
    """What is computed beside attention, of rows of two heads."""
    ops, angles_TR, norm_D = dense.TritonOps(), x_TE[:, : head_dim // 2].contiguous(), x_TE[0, :head_dim]
    ops.add_norm(x_TE, None, x_TE[0], 1e-6)
    ops.add_norm(x_TE, x_TE, x_TE[0], 1e-6)
    ops.silu_mul(x_TE)
    ops.rotate(x_TE.unflatten(1, (2, head_dim)), Rotation(angles_TR, angles_TR, 1, None, None, 1e-6))
    ops.rotate(x_TE.unflatten(1, (2, head_dim)), Rotation(angles_TR, angles_TR, 1, norm_D, norm_D, 1e-6))


if __name__ == "__main__":
    main(getattr(torch, sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
