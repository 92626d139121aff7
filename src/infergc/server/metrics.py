"""Prometheus metrics: what the engine counts, and the latencies that clients see."""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from infergc.client import EngineClient
from infergc.server.histogram import Distribution

_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
            40.0, 80.0, 160.0, 640.0)  # fmt: skip
_FINISHED = "finished_"
_COUNTERS = {  # counter of the engine → (name of ours, help); others are shown under their own name
    "preemptions": ("preemptions", "Times a running request gave back its pages for another."),
    "recomputed_tokens": ("recomputed_tokens", "Tokens computed again after a preemption."),
    "cow_copies": ("cow_copies", "Pages copied because a shared page was to be written."),
    "evicted_pages": ("evicted_pages", "Cached pages reclaimed for others."),
    "prefix_queries": ("prefix_tokens_queried", "Prompt tokens looked up in the prefix cache."),
    "prefix_hits": (
        "prefix_tokens_hit",
        "Prompt tokens found in the prefix cache; recomputation never counts.",
    ),
    "prompt_tokens": ("prompt_tokens", "Prompt tokens of admitted requests."),
    "generation_tokens": ("generation_tokens", "Tokens generated; of a beam search those of the texts it gave."),
    "steps": ("steps", "Engine steps."),
    "failed_steps": ("failed_steps", "Steps that failed; their requests ended with an error."),
    "sealed_pages": ("sealed_pages", "Pages published in the prefix cache."),
    "deduplicated_pages": ("deduplicated_pages", "Pages swapped for identical cached ones when they were published."),
    "refused_reservations": ("refused_reservations", "Times the heap had no room for what was asked of it."),
}
_VLLM_COUNTERS = {  # counter of the engine → (vLLM's name, help)
    "preemptions": ("num_preemptions", "Alias of infergc_preemptions_total."),
    "prefix_queries": ("prefix_cache_queries", "Alias of infergc_prefix_tokens_queried_total."),
    "prefix_hits": ("prefix_cache_hits", "Alias of infergc_prefix_tokens_hit_total."),
    "prompt_tokens": ("prompt_tokens", "Alias of infergc_prompt_tokens_total."),
    "generation_tokens": ("generation_tokens", "Alias of infergc_generation_tokens_total."),
}
_PROCESS = {  # part of the engine's footprint → (name, help)
    "resident": ("process_resident_memory", "Memory that the engine's process holds now."),
    "peak": ("process_peak_memory", "The most memory that the engine's process held since its model was loaded."),
    "kv": ("kv_committed_memory", "KV storage that was ever written, which is what of it takes memory."),
}
_LABELS = ("model_name", "engine")  # vLLM's; dashboards filter by them


class EngineCollector(Collector):
    """Shows the engine's latest counters and gauges as they are: nothing is kept here."""

    def __init__(self, client: EngineClient, model: str, block_size: int) -> None:
        self._client = client
        self._labels = (model, "0")
        self._block_size = block_size

    def collect(self) -> Iterator[Metric]:
        """All families of the engine."""
        stats = self._client.stats
        requests, kv, counters = (stats.get(part, {}) for part in ("requests", "kv", "counters"))
        yield from _memory(self._client.ready.memory)
        yield from _process(stats.get("process", {}))
        yield from _requests(requests)
        yield from _pages(kv)
        yield from _counters(counters)
        yield from self._vllm(requests, kv, counters)

    def _vllm(self, requests: dict[str, int], kv: dict[str, Any], counters: dict[str, int]) -> Iterator[Metric]:
        for state in ("running", "waiting"):
            yield self._gauge(f"num_requests_{state}", f"Requests {state}.", requests.get(state, 0))
        usage = max((_usage(group) for group in kv.values()), default=0.0)
        yield self._gauge("kv_cache_usage_perc", "Share of KV pages in use by requests, 0 to 1.", usage)
        for key, (name, text) in _VLLM_COUNTERS.items():
            family = CounterMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            family.add_metric(self._labels, counters.get(key, 0))
            yield family
        yield self._cache_config(kv)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family

    def _cache_config(self, kv: dict[str, Any]) -> Metric:
        labels = ("block_size", "num_gpu_blocks", "cache_dtype", "engine")
        family = GaugeMetricFamily("vllm:cache_config_info", "The KV cache's configuration.", labels=labels)
        pages = sum(group.get("capacity", 0) for group in kv.values())
        family.add_metric((str(self._block_size), str(pages), self._client.ready.dtype, "0"), 1)
        return family


class Latencies:
    """Times of requests as the server's clients see them, from the request's arrival."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        labels = dict(zip(_LABELS, (model, "0"), strict=True))

        def histogram(name: str, text: str) -> Distribution:
            family = Distribution(f"vllm:{name}_seconds", text, _SECONDS, labels)
            registry.register(family)
            return family

        self.first = histogram("time_to_first_token", "Seconds from arrival to the first token.")
        self.between = histogram("inter_token_latency", "Seconds between tokens.")
        self.whole = histogram("e2e_request_latency", "Seconds from arrival to the end.")
        success = ("vllm:request_success", "Requests answered, by reason.", (*_LABELS, "finished_reason"))
        self._answered = Counter(*success, registry=registry)
        self._labels = (model, "0")

    def answered(self, reason: str) -> None:
        """A request came to its end."""
        self._answered.labels(*self._labels, reason).inc()


class Stopwatch:
    """The times of one request."""

    def __init__(self, latencies: Latencies, arrival: float) -> None:
        self._latencies = latencies
        self._arrival = arrival
        self._last: float | None = None

    def tokens(self, count: int) -> None:
        """``count`` tokens came together: they share the time since the last, and those with the first took none."""
        if count == 0:
            return
        now = perf_counter()
        if self._last is None:
            self._latencies.first.observe(now - self._arrival)
            self._last, count = now, count - 1
        if count:
            self._latencies.between.observe((now - self._last) / count, count)
        self._last = now

    def finished(self, reason: str) -> None:
        """The request is answered."""
        self._latencies.whole.observe(perf_counter() - self._arrival)
        self._latencies.answered(reason)


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The exposition that a scraper accepts, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _memory(memory: dict[str, int]) -> Iterator[Metric]:
    text = "The most memory that each holder takes in the engine's process; they sum to its peak when KV is full."
    family = GaugeMetricFamily("infergc_memory_bytes", text, labels=("holder",))
    for holder, size in sorted(memory.items()):
        family.add_metric((holder,), size)
    yield family


def _process(held: dict[str, int]) -> Iterator[Metric]:
    for key, (name, text) in _PROCESS.items():
        if key in held:
            yield GaugeMetricFamily(f"infergc_{name}_bytes", text, value=held[key])


def _requests(requests: dict[str, int]) -> Iterator[Metric]:
    family = GaugeMetricFamily("infergc_requests", "Requests in the engine, by state.", labels=("state",))
    for state, number in sorted(requests.items()):
        family.add_metric((state,), number)
    yield family


def _pages(kv: dict[str, Any]) -> Iterator[Metric]:
    help_text = "KV pages by state; the states sum to the capacity."
    pages = GaugeMetricFamily("infergc_kv_pages", help_text, labels=("tier", "group", "state"))
    capacity = GaugeMetricFamily("infergc_kv_pages_capacity", "KV pages that exist.", labels=("tier", "group"))
    for group, states in sorted(kv.items()):
        capacity.add_metric(("device", group), states.get("capacity", 0))
        for state in ("free", "live", "cached", "in_transit"):
            pages.add_metric(("device", group, state), states.get(state, 0))
    yield pages
    yield capacity


def _counters(counters: dict[str, int]) -> Iterator[Metric]:
    finished = CounterMetricFamily(
        "infergc_requests_finished",
        "Choices that left the engine; one ended by a stop string in its text leaves by abort.",
        labels=("reason",),
    )
    for key, number in sorted(counters.items()):
        if key.startswith(_FINISHED):
            finished.add_metric((key.removeprefix(_FINISHED),), number)
        else:
            name, text = _COUNTERS.get(key, (key, f"The engine's counter {key}."))
            yield CounterMetricFamily(f"infergc_{name}", text, value=number)
    yield finished


def _usage(group: dict[str, int]) -> float:
    """Pages that requests hold, as a share; what is only cached is as good as free."""
    capacity = group.get("capacity", 0)
    return (group.get("live", 0) + group.get("in_transit", 0)) / capacity if capacity else 0.0
