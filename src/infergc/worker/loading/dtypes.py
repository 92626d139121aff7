"""Which dtype to compute in, given the checkpoint's and what the CPU kernels are fast in."""

import logging

import torch

log = logging.getLogger(__name__)

_BY_NAME = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def choose_dtype(setting: str, checkpoint: torch.dtype) -> torch.dtype:
    """The dtype of weights, activations and KV.

    bfloat16 is fast on every CPU: our kernels widen it as they read it, which costs less than reading twice the
    bytes. Widening float16 takes many instructions, so ``auto`` stores it as float32, which holds it exactly.

    Args:
        setting: ``--dtype``; ``auto`` is the checkpoint's, but float32 for float16 and what is none of the three.
        checkpoint: dtype of the stored weights.
    """
    if setting != "auto":
        return _BY_NAME[setting]
    if checkpoint in {torch.bfloat16, torch.float32}:
        return checkpoint
    log.info("dtype auto: %s is not fast on CPUs; using float32", name(checkpoint))
    return torch.float32


def name(dtype: torch.dtype) -> str:
    """``"bfloat16"`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")
