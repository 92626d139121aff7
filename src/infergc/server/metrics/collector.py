"""The collector: the engine's latest figures as families, each idea's by its own file."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from infergc.server.metrics.figures import EngineFigures
from infergc.server.metrics.garbage import python_garbage
from infergc.server.metrics.kv_garbage import kv_garbage
from infergc.server.metrics.load import pages_by_generation, pages_by_state, requests_by_state
from infergc.server.metrics.memory import footprint, ledger
from infergc.server.metrics.pins import pins
from infergc.server.metrics.queue import queue_times
from infergc.server.metrics.reclaim import reclaim
from infergc.server.metrics.sessions import sessions
from infergc.server.metrics.tensors import tensors
from infergc.server.metrics.tiers import bytes_by_tier, disk_cache, preempted, transfers
from infergc.server.metrics.totals import totals
from infergc.server.metrics.vllm import VllmNames


class EngineCollector(Collector):
    """Shows the engine's latest counters and gauges as they are: nothing is kept here."""

    def __init__(self, figures: EngineFigures, model: str) -> None:
        self._figures = figures
        self._model = model

    def collect(self) -> Iterator[Metric]:
        """All families of the engine."""
        stats = self._figures.latest
        requests, kv, counters = (stats.get(part, {}) for part in ("requests", "kv", "counters"))
        ready = self._figures.ready  # of another engine than before, where it was started again
        vllm = VllmNames(self._model, ready.dtype, ready.page_tokens)
        yield from ledger(ready.memory)
        yield from footprint(stats.get("process", {}))
        yield from python_garbage(stats.get("python_gc", {}))
        yield from tensors(stats.get("tensors", {}))
        yield from requests_by_state(requests)
        tiers = stats.get("tiers", {})
        yield from pages_by_state(kv, tiers.get("host"), stats.get("page_bytes", {}))
        yield from bytes_by_tier(kv, tiers, stats.get("page_bytes", {}))
        yield from pages_by_generation(stats.get("pages", {}))
        yield from reclaim(stats.get("evicted", {}), stats.get("residency", {}))
        yield from kv_garbage(stats.get("collector", {}), stats.get("collection_seconds", {}))
        yield from sessions(stats.get("sessions", {}))
        yield from pins(stats.get("pins", {}))
        waits = stats.get("queue_seconds", {})
        yield from queue_times(waits)
        yield from preempted(stats.get("preempted", {}))
        yield from transfers(tiers)
        yield from disk_cache(tiers, stats.get("disk_store", {}))
        yield from totals(counters)
        yield from vllm.families(requests, kv, counters, waits)
        yield from vllm.offload(tiers, counters)


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The exposition that a scraper accepts, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
