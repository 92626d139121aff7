"""Infer-GC: an LLM inference engine that treats the KV cache as a garbage-collected heap.

``from infergc import LLM, SamplingParams`` is the offline API. Names are loaded when first used, so that
importing the package, or any part of it above the torch line, costs little and brings in no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["LLM", "SamplingParams", "StructuredOutputs", "__version__"]

_HOMES = {"LLM": "infergc.llm", "SamplingParams": "infergc.params", "StructuredOutputs": "infergc.structured_outputs"}


def __getattr__(name: str) -> Any:
    """Load an exported name from its home module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
