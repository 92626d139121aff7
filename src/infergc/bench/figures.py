"""The figures of a throughput run, as plain data for a file."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median, quantiles
from typing import Any

from infergc.bench.rounds import Round
from infergc.bench.throughput import Report


def figures(report: Report) -> dict[str, Any]:
    """Everything that the report says; times in seconds, sizes in bytes, speeds in tokens a second."""
    found = {
        "load": asdict(report.load),
        "dtype": report.dtype,
        "attention_backend": report.backend,
        "peak_rss_bytes": report.peak_bytes,
        "output_speed": report.speed,
        "decode_speed": report.decode_speed,
        "rounds": [_round(one, report.load.generated, report.load.tokens) for one in report.rounds],
    }
    if report.bound is not None and report.split is not None and report.rates is not None:
        doubt = {"reliable": report.has_sound_bound, "products_within_a_round": report.most_products}
        found["bound"] = {**asdict(report.bound), **over_bound(report), **doubt}
        found["split"] = asdict(report.split)
        found["rates"] = asdict(report.rates)
    return found


def over_bound(report: Report) -> dict[str, float]:
    """How many times the bound the median round took.

    Of a single request also the share of its decode in what reading the weights once a token allows.
    """
    assert report.bound is not None
    assert report.rates is not None
    seconds = report.median_round.seconds
    found = {
        "over_products": seconds / report.bound.products,
        "over_products_and_attention": seconds / report.bound.with_attention,
    }
    if report.load.requests == 1 and report.decode_speed is not None:
        found["share_of_weight_reading"] = report.decode_speed * report.rates.weight_bytes / report.rates.read_bytes
    return found


def percentiles(times: Sequence[float]) -> tuple[float, float] | None:
    """Median and 99th percentile; None of no times."""
    if not times:
        return None
    return median(times), quantiles(times, n=100, method="inclusive")[98] if len(times) > 1 else times[0]


def _round(one: Round, generated: int, tokens: int) -> dict[str, Any]:
    return {
        "seconds": one.seconds,
        "output_speed": generated / one.seconds,
        "total_speed": tokens / one.seconds,
        "steps": len(one.plans),
        "worker_seconds": one.worker,
        "first_token": _named(one.first_tokens),
        "between_tokens": _named(one.gaps),
        "digest": one.digest,
    }


def _named(times: Sequence[float]) -> dict[str, float] | None:
    found = percentiles(times)
    return found and {"median": found[0], "p99": found[1]}
