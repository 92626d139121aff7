"""Attention over pages by FlashInfer (Ye et al. 2025), a library that is optional: behind the seam of the others."""
