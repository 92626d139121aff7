"""Attention kernels over pages: the seam (api), the oracle (reference), the backends and their registry."""
