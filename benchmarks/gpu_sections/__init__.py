"""The sections of ``benchmarks/gpu.py``, one file each; see ``infergc.bench.gpu.section``."""
