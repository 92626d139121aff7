"""What an engine holds in memory, for a person."""

from infergc.engine.messages import Ready
from infergc.units import format_bytes

_FIRST = ("weights", "activations", "kv")


def ledger(ready: Ready) -> list[str]:
    """Lines: one per holder of memory, their sum, and what the engine can serve with it."""
    named = [name for name in _FIRST if name in ready.memory]
    holders = [*named, *sorted(ready.memory.keys() - named)]
    rows = [*((holder, ready.memory[holder]) for holder in holders), ("total", sum(ready.memory.values()))]
    width = max(len(holder) for holder, _ in rows)
    lines = [f"  {holder:<{width}}  {format_bytes(size):>10}" for holder, size in rows]
    return [
        "Memory:",
        *lines,
        f"KV cache: {ready.kv_capacity_tokens:,} tokens; one request may use {ready.max_model_len:,}",
        f"Runs in {ready.dtype} with {ready.backend} attention",
    ]
