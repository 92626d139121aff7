"""vLLM's names for what it counts too, so that dashboards made for it work."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from infergc.server.metrics.queue import wait_buckets

LABELS = ("model_name", "engine")  # dashboards filter by them
_COUNTERS = {  # counter of the engine → (vLLM's name, help)
    "preemptions": ("num_preemptions", "Alias of infergc_preemptions_total."),
    "prefix_queries": ("prefix_cache_queries", "Alias of infergc_prefix_tokens_queried_total."),
    "prefix_hits": ("prefix_cache_hits", "Alias of infergc_prefix_tokens_hit_total."),
    "prompt_tokens": ("prompt_tokens", "Alias of infergc_prompt_tokens_total."),
    "generation_tokens": ("generation_tokens", "Alias of infergc_generation_tokens_total."),
}


class VllmNames:
    """The families under vLLM's names.

    Args:
        model: as it is served.
        dtype: of KV.
        block_size: tokens in a page.
    """

    def __init__(self, model: str, dtype: str, block_size: int) -> None:
        self._labels = (model, "0")
        self._dtype = dtype
        self._block_size = block_size

    def families(
        self, requests: dict[str, int], kv: dict[str, Any], counters: dict[str, int], waits: dict[str, Any]
    ) -> Iterator[Metric]:
        """All of them, of the engine's latest figures."""
        for state in ("running", "waiting"):
            yield self._gauge(f"num_requests_{state}", f"Requests {state}.", requests.get(state, 0))
        usage = max((_usage(group) for group in kv.values()), default=0.0)
        yield self._gauge("kv_cache_usage_perc", "Share of KV pages in use by requests, 0 to 1.", usage)
        for key, (name, text) in _COUNTERS.items():
            family = CounterMetricFamily(f"vllm:{name}", text, labels=LABELS)
            family.add_metric(self._labels, counters.get(key, 0))
            yield family
        text = "Alias of infergc_request_queue_time_seconds."
        times = HistogramMetricFamily("vllm:request_queue_time_seconds", text, labels=LABELS)
        times.add_metric(self._labels, *wait_buckets(waits))
        yield times
        yield self._cache_config(kv)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=LABELS)
        family.add_metric(self._labels, value)
        return family

    def _cache_config(self, kv: dict[str, Any]) -> Metric:
        labels = ("block_size", "num_gpu_blocks", "cache_dtype", "engine")
        family = GaugeMetricFamily("vllm:cache_config_info", "The KV cache's configuration.", labels=labels)
        pages = sum(group.get("capacity", 0) for group in kv.values())
        family.add_metric((str(self._block_size), str(pages), self._dtype, "0"), 1)
        return family


def _usage(group: dict[str, int]) -> float:
    """Pages that requests hold, as a share; what is only cached is as good as free."""
    capacity = group.get("capacity", 0)
    return (group.get("live", 0) + group.get("in_transit", 0)) / capacity if capacity else 0.0
