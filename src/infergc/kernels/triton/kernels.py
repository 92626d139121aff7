"""All kernels by name. Importing this imports Triton."""

from infergc.kernels.triton.long_rows import attend_long_rows
from infergc.kernels.triton.short_rows import attend_short_rows, merge_short_rows
from infergc.kernels.triton.writing import write_tokens

__all__ = ["attend_long_rows", "attend_short_rows", "merge_short_rows", "write_tokens"]
