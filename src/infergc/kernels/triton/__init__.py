"""Attention over pages in Triton (Tillet et al. 2019): for GPUs, and for tests under Triton's interpreter."""
