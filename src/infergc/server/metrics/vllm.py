"""vLLM's names for what it counts too, so that dashboards made for it work."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from infergc.engine.tier_stats import TRANSFERS
from infergc.server.metrics.queue import wait_buckets

LABELS = ("model_name", "engine")  # dashboards filter by them
_COUNTERS = {  # counter of the engine → (vLLM's name, help)
    "preemptions": ("num_preemptions", "Alias of infergc_preemptions_total."),
    "prefix_queries": ("prefix_cache_queries", "Alias of infergc_prefix_tokens_queried_total."),
    "prompt_tokens": ("prompt_tokens", "Alias of infergc_prompt_tokens_total."),
    "generation_tokens": ("generation_tokens", "Alias of infergc_generation_tokens_total."),
}


_OFFLOADS = {"GPU_to_CPU": ("device", "host"), "CPU_to_GPU": ("host", "device")}


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
        if requests:  # else there is no engine
            yield self._gauge("num_requests_running", "Requests running.", requests.get("running", 0))
            waiting = requests.get("waiting", 0) + requests.get("loading", 0)
            text = "Requests waiting, those included whose KV is being read."
            yield self._gauge("num_requests_waiting", text, waiting)
        usage = max((_usage(group) for group in kv.values()), default=0.0)
        yield self._gauge("kv_cache_usage_perc", "Share of KV pages in use by requests, 0 to 1.", usage)
        for key, (name, text) in _COUNTERS.items():
            yield self._counter(name, text, counters.get(key, 0))
        text = "Prompt tokens found in the prefix cache on the device."
        yield self._counter("prefix_cache_hits", text, _local_hits(counters))
        text = "Alias of infergc_request_queue_time_seconds."
        times = HistogramMetricFamily("vllm:request_queue_time_seconds", text, labels=LABELS)
        times.add_metric(self._labels, *wait_buckets(waits))
        yield times
        yield self._cache_config(kv)

    def offload(self, tiers: dict[str, Any], counters: dict[str, int]) -> Iterator[Metric]:
        """What vLLM counts of its offloading connector: tokens asked of tiers below, and bytes; none without tiers."""
        if not tiers:
            return
        text = "Prompt tokens that the device did not have, and were looked up in the tiers below it."
        asked = counters.get("prefix_queries", 0) - _local_hits(counters)
        yield self._counter("external_prefix_cache_queries", text, asked)
        text = "Alias of infergc_prefix_tokens_hit_host_total."
        yield self._counter("external_prefix_cache_hits", text, counters.get("prefix_hits_host", 0))
        text = "Bytes copied between device and host: infergc_kv_transfer_bytes_total by direction."
        moved = CounterMetricFamily("vllm:kv_offload_total_bytes", text, labels=(*LABELS, "transfer_type"))
        for direction, tiers_of in _OFFLOADS.items():
            pages = sum(tiers["moved"][reason] for reason, way in TRANSFERS.items() if way == tiers_of)
            moved.add_metric((*self._labels, direction), pages * tiers["page_bytes"])
        yield moved
        host = tiers["host"]
        used = 1 - host["free"] / host["capacity"]
        yield self._gauge("kv_offload_cpu_cache_usage_perc", "Share of the host tier's pages in use, 0 to 1.", used)

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=LABELS)
        family.add_metric(self._labels, value)
        return family

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


def _local_hits(counters: dict[str, int]) -> int:
    return counters.get("prefix_hits", 0) - counters.get("prefix_hits_host", 0)
