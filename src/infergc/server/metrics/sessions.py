"""Sessions: how many are open, and why others were closed."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from infergc.sched.sessions import CLOSED_FOR


def sessions(figures: dict[str, int]) -> Iterator[Metric]:
    """Open ones, and closed ones by reason."""
    yield GaugeMetricFamily("infergc_sessions", "Sessions that are open.", value=figures.get("open", 0))
    text = "Sessions closed: asked for, idle too long, for memory, or over the limit of open ones."
    closed = CounterMetricFamily("infergc_sessions_closed", text, labels=("reason",))
    for reason in CLOSED_FOR:
        closed.add_metric((reason,), figures.get(reason, 0))
    yield closed
