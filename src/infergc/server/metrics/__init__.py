"""Prometheus metrics: what the engine counts, and the latencies that clients see. One file for each idea."""

from infergc.server.metrics.collector import EngineCollector, render
from infergc.server.metrics.figures import EngineFigures
from infergc.server.metrics.latencies import Latencies, Stopwatch
from infergc.server.metrics.life import LifeCollector
from infergc.server.metrics.queue import LineCollector

__all__ = ["EngineCollector", "EngineFigures", "Latencies", "LifeCollector", "LineCollector", "Stopwatch", "render"]
