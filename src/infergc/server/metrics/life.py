"""Whether there is an engine, how often it was started again, and how long it has stood still."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infergc.client import EngineSupervisor


class LifeCollector(Collector):
    """Counted by the server: what engines count themselves begins anew with each, which Prometheus takes as a reset."""

    def __init__(self, engine: EngineSupervisor) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """The families."""
        engine = self._engine
        yield GaugeMetricFamily("infergc_engine_up", "1 while an engine runs, else 0.", int(engine.healthy))
        text = "Seconds in which the engine had work and took no step, or did not answer; 0 while it moves or rests."
        yield GaugeMetricFamily("infergc_engine_still_seconds", text, engine.still_seconds)
        text = "Engines that were started because the one before had died."
        yield CounterMetricFamily("infergc_engine_restarts", text, engine.restarts)
