"""What an engine holds in memory, for a person."""

from infergc.config import EngineConfig
from infergc.engine.messages import Ready
from infergc.units import MIB, format_bytes

_ORDER = {"runtime": "runtime and libraries", "weights": "weights", "activations": "activations", "kv": "KV cache"}


def ledger(ready: Ready) -> list[str]:
    """Lines: one per holder of memory, their sum, and what the engine can serve with it."""
    holders = [*(name for name in _ORDER if name in ready.memory), *sorted(ready.memory.keys() - _ORDER.keys())]
    rows = [(_ORDER.get(name, name), ready.memory[name]) for name in holders]
    rows.append(("at most, together", sum(ready.memory.values())))
    width = max(len(title) for title, _ in rows)
    return [
        "Memory of the engine:",
        *(f"  {title:<{width}}  {f'{size / MIB:,.1f} MiB':>12}" for title, size in rows),
        f"KV cache: {ready.kv_capacity_tokens:,} tokens; one request may use {ready.max_model_len:,}",
        f"Runs in {ready.dtype} with {ready.backend} attention",
    ]


def disk_tier(config: EngineConfig) -> list[str]:
    """A line that says where the disk tier lies and how large it may grow; none where there is no such tier."""
    if config.disk_cache_dir is None:
        return []
    return [f"Disk tier: at most {format_bytes(config.disk_cache_size)} in {config.disk_cache_dir}"]
