"""Memory of which the system commits only what is written."""

import mmap

import torch


def arena(size: int, dtype: torch.dtype) -> torch.Tensor:
    """``size`` bytes of page-aligned zeros that cost no memory until written; freed with the last tensor over them."""
    return torch.frombuffer(mmap.mmap(-1, size), dtype=dtype)
