"""The engine's running totals."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

_FINISHED, _REFUSED = "finished_", "allocation_failures_"
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
    "prefix_hits_host": (
        "prefix_tokens_hit_host",
        "Prompt tokens found in the prefix cache that were copied from the host tier; part of those found.",
    ),
    "prefix_hits_disk": (
        "prefix_tokens_hit_disk",
        "Prompt tokens found in the prefix cache that were read from disk for their request; part of those.",
    ),
    "prompt_tokens": ("prompt_tokens", "Prompt tokens of admitted requests."),
    "generation_tokens": ("generation_tokens", "Tokens generated; of a beam search those of the texts it gave."),
    "steps": ("steps", "Engine steps."),
    "failed_steps": ("step_failures", "Steps that failed; a request that fails alone ends, others run again."),
    "engine_resumptions": (
        "engine_resumptions",
        "Times the engine began anew around its model, with an empty cache: all requests went on.",
    ),
    "requests_retried": ("requests_retried", "Times a request ran again because a step with it failed."),
    "sealed_pages": ("sealed_pages", "Pages published in the prefix cache."),
    "deduplicated_pages": ("deduplicated_pages", "Pages swapped for identical cached ones when they were published."),
    "compactions": ("compactions", "Sparse superblocks that were emptied into the gaps of others."),
    "moved_pages": ("compaction_moved_pages", "Pages that compaction moved."),
    "corruptions": ("corruptions", "Damage to KV storage that --heap-debug found; without it nothing looks."),
    "refused_reservations": ("refused_reservations", "Times the heap had no room for what was asked of it."),
}


def totals(counters: dict[str, int]) -> Iterator[Metric]:
    """A family for each counter, the requests that left by reason, and refusals of memory by what it was for."""
    finished = CounterMetricFamily(
        "infergc_requests_finished",
        "Choices that left the engine; one ended by a stop string in its text leaves by abort.",
        labels=("reason",),
    )
    refused = CounterMetricFamily(
        "infergc_allocation_failures",
        "Times the system had no memory for the engine, by what it was doing: see docs/faults.md.",
        labels=("where",),
    )
    for key, number in sorted(counters.items()):
        if key.startswith(_FINISHED):
            finished.add_metric((key.removeprefix(_FINISHED),), number)
        elif key.startswith(_REFUSED):
            refused.add_metric((key.removeprefix(_REFUSED),), number)
        else:
            name, text = _COUNTERS.get(key, (key, f"The engine's counter {key}."))
            yield CounterMetricFamily(f"infergc_{name}", text, value=number)
    yield finished
    yield refused
