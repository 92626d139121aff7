"""What the engine's process holds: by the ledger at most, and now."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

_PROCESS = {  # part of the engine's footprint → (name, help)
    "resident": ("process_resident_memory", "Memory that the engine's process holds now."),
    "peak": ("process_peak_memory", "The most memory that the engine's process held since its model was loaded."),
    "kv": ("kv_committed_memory", "KV storage that was ever written, which is what of it takes memory."),
}


def ledger(memory: dict[str, int]) -> Iterator[Metric]:
    """The ledger of start-up."""
    text = "The most memory that each holder takes in the engine's process; they sum to its peak when KV is full."
    family = GaugeMetricFamily("infergc_memory_bytes", text, labels=("holder",))
    for holder, size in sorted(memory.items()):
        family.add_metric((holder,), size)
    yield family


def footprint(held: dict[str, int]) -> Iterator[Metric]:
    """What the process holds now."""
    for key, (name, text) in _PROCESS.items():
        if key in held:
            yield GaugeMetricFamily(f"infergc_{name}_bytes", text, value=held[key])
