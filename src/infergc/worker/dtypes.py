"""Which dtype to compute in, given the checkpoint's and what this CPU multiplies natively."""

import logging
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_BY_NAME = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# CPU flags (x86 and Arm, as Linux names them) that mean matrix instructions for a dtype.
_NATIVE_FLAGS = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16"},
    torch.float16: {"avx512_fp16", "amx_fp16", "fphp", "asimdhp"},
}


def choose_dtype(setting: str, checkpoint: torch.dtype, flags: frozenset[str]) -> torch.dtype:
    """The dtype of weights, activations and KV.

    Args:
        setting: ``--dtype``; ``auto`` is the checkpoint's, but float32 where this CPU would emulate it.
        checkpoint: dtype of the stored weights.
        flags: this CPU's, from ``cpu_flags``.
    """
    if setting != "auto":
        return _BY_NAME[setting]
    if checkpoint not in _BY_NAME.values():
        log.info("dtype auto: the checkpoint's %s is not computed in; using float32", name(checkpoint))
        return torch.float32
    if checkpoint in _NATIVE_FLAGS and not _NATIVE_FLAGS[checkpoint] & flags:
        log.info("dtype auto: this CPU has no native %s arithmetic; using float32", name(checkpoint))
        return torch.float32
    return checkpoint


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction-set flags of the first CPU; empty where the system does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return frozenset(found.partition(":")[2].split())


def name(dtype: torch.dtype) -> str:
    """``"bfloat16"`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")
