"""The frame of ``benchmarks/gpu.py``: figures and bars, sections and their time. No tensors: sections have those."""
