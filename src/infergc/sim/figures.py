"""The figures of a simulated run, as plain data for JSON and tables."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from infergc.engine.loop import Engine
from infergc.engine.tier_stats import preempted, tier_figures
from infergc.sim.clock import Clock
from infergc.sim.served import Fate
from infergc.units import ceil_div

_NUMBER = re.compile("[0-9]+")
_PERCENTILES = (50, 90, 99)


def figures(policy: str, engine: Engine, clock: Clock, fates: Sequence[Fate]) -> dict[str, Any]:
    """What a run gave.

    Keys: ``policy``; ``capacity_tokens`` of the pool; ``requests``, ``finished``, ``cut`` (their output ended where
    the pool did) and ``refused``; ``refusals``, reason → requests, with N for what each of them has;
    ``prefix_hit_rate``, the share of the prompts' pages that lay in the leading run found in the cache, and
    ``token_hit_rate``, the same in tokens; ``peak_live_bytes`` and ``peak_cached_bytes``; ``preemptions`` and
    ``recomputed_tokens``; ``host``, what the tier below was good for, None without one: {capacity_tokens; hit_rate,
    the share of the prompts' tokens that were copied from it; promoted_tokens, all that were; swaps, requests that gave
    way and were kept there; copied_bytes; copy_seconds}; ``steps`` and ``seconds`` of simulated time; ``throughput``
    {requests, prompt_tokens, output_tokens} a second of it; ``ttft``, ``tpot`` and ``e2e`` {mean, p50, p90, p99} in
    seconds; these five are None where time does not count; ``collector``, running totals of what it did.

    A refused request is no hit of any page. Cost: O(requests).
    """
    counters, ready = engine.scheduler.counters, engine.ready
    seconds = clock.now if any(fate.first is not None for fate in fates) else None
    asked = sum(fate.request.input_len for fate in fates)
    size = ready.page_tokens
    pages = sum(ceil_div(fate.request.input_len, size) for fate in fates)
    return {
        "policy": policy,
        "capacity_tokens": ready.kv_capacity_tokens,
        "requests": len(fates),
        "finished": sum(fate.finished for fate in fates),
        "cut": sum(fate.cut for fate in fates),
        "refused": sum(bool(fate.error) for fate in fates),
        "refusals": dict(Counter(_reason(fate.error) for fate in fates if fate.error)),
        "prefix_hit_rate": sum(fate.cached // size for fate in fates) / pages if pages else 0.0,
        "token_hit_rate": sum(fate.cached for fate in fates) / asked if asked else 0.0,
        "peak_live_bytes": clock.peak_live,
        "peak_cached_bytes": clock.peak_cached,
        "preemptions": counters.preemptions,
        "recomputed_tokens": counters.recomputed_tokens,
        "host": _host(engine, asked),
        "steps": clock.steps,
        "seconds": seconds,
        "throughput": None if seconds is None else _throughput(fates, seconds),
        "ttft": _spread(fate.first - fate.request.arrival for fate in fates if fate.first is not None),
        "tpot": _spread(_tpots(fates)),
        "e2e": _spread(fate.last - fate.request.arrival for fate in fates if fate.last is not None),
        "collector": _collector(engine),
    }


def _host(engine: Engine, asked: int) -> dict[str, float] | None:
    """What the host tier was good for, of so many tokens of prompts."""
    scheduler, size = engine.scheduler, engine.ready.page_tokens
    tiers = tier_figures(scheduler)
    if not tiers:
        return None
    return {
        "capacity_tokens": tiers["host"]["capacity"] * size,
        "hit_rate": scheduler.counters.prefix_hits_host / asked if asked else 0.0,
        "promoted_tokens": tiers["moved"]["promoted"] * size,
        "swaps": preempted(scheduler)["swap"],
        "copied_bytes": tiers["copied"]["bytes"],
        "copy_seconds": tiers["copied"]["seconds"],
    }


def _reason(error: str) -> str:
    """What refusals have in common: the first number in each is the request's own."""
    return _NUMBER.sub("N", error, count=1)


def _throughput(fates: Sequence[Fate], seconds: float) -> dict[str, float]:
    done = [fate for fate in fates if fate.finished]
    return {
        "requests": len(done) / seconds,
        "prompt_tokens": sum(fate.request.input_len for fate in done) / seconds,
        "output_tokens": sum(fate.tokens for fate in done) / seconds,
    }


def _tpots(fates: Sequence[Fate]) -> Iterable[float]:
    """Seconds a token after the first, of requests with more than one; a beam search tells its texts whole."""
    for fate in fates:
        length = fate.tokens // fate.request.choices
        if fate.first is not None and fate.last is not None and length > 1 and not fate.request.beam:
            yield (fate.last - fate.first) / (length - 1)


def _spread(values: Iterable[float]) -> dict[str, float] | None:
    numbers = np.fromiter(values, np.float64)
    if not len(numbers):
        return None
    percentiles = np.percentile(numbers, _PERCENTILES).tolist()
    names = (f"p{rank}" for rank in _PERCENTILES)
    return {"mean": float(numbers.mean()), **dict(zip(names, percentiles, strict=True))}


def _collector(engine: Engine) -> dict[str, Any]:
    """Counters alone: pauses are this machine's, not the simulated one's."""
    collector, heap = engine.pacer.collector.counters, engine.heap
    return {
        "minor": collector.minor,
        "major": collector.major,
        "units": dict(collector.units),
        "leaks": collector.leaks,
        "garbage": collector.garbage,
        "cycles": heap.counters.cycles,
        "promoted": heap.tree.generations.promoted,
        "demoted": heap.tree.generations.demoted,
        "evicted": heap.counters.evicted,
        "deduplicated": heap.counters.deduplicated,
        "copies": heap.counters.copies,
        "compactions": heap.counters.compactions,
        "moved": heap.counters.moved,
    }
