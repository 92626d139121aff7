"""Latencies that clients see, and how many requests were answered."""

from collections.abc import Sequence
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter

from infergc.server.histogram import Distribution
from infergc.server.metrics.vllm import LABELS

_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
            40.0, 80.0, 160.0, 640.0)  # fmt: skip
_TOKENS = tuple(step * 10**power for power in range(6) for step in (1, 2, 5))


class Latencies:
    """Times of requests as the server's clients see them, from the request's arrival."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        labels = dict(zip(LABELS, (model, "0"), strict=True))

        def histogram(name: str, text: str, bounds: Sequence[float] = _SECONDS) -> Distribution:
            family = Distribution(f"vllm:{name}", text, bounds, labels)
            registry.register(family)
            return family

        self.first = histogram("time_to_first_token_seconds", "Seconds from arrival to the first token.")
        self.between = histogram("inter_token_latency_seconds", "Seconds between tokens.")
        self.whole = histogram("e2e_request_latency_seconds", "Seconds from arrival to the end.")
        self.decode = histogram("request_decode_time_seconds", "Seconds from the first token to the last.")
        self.prompt = histogram("request_prompt_tokens", "Tokens of the prompt, for each request.", _TOKENS)
        self.generated = histogram("request_generation_tokens", "Tokens of the output, for each choice.", _TOKENS)
        success = ("vllm:request_success", "Requests answered, by reason.", (*LABELS, "finished_reason"))
        self._answered = Counter(*success, registry=registry)
        self._labels = (model, "0")

    def answered(self, reason: str) -> None:
        """A request came to its end."""
        self._answered.labels(*self._labels, reason).inc()


class Stopwatch:
    """The times of one request, or of one of its choices."""

    def __init__(self, latencies: Latencies, arrival: float) -> None:
        self._latencies = latencies
        self._arrival = arrival
        self._first = 0.0
        self._last: float | None = None
        self._tokens = 0

    def tokens(self, count: int) -> None:
        """``count`` tokens came together: they share the time since the last, and those with the first took none."""
        if count == 0:
            return
        now = perf_counter()
        self._tokens += count
        if self._last is None:
            self._latencies.first.observe(now - self._arrival)
            self._first, self._last, count = now, now, count - 1
        if count:
            self._latencies.between.observe((now - self._last) / count, count)
        self._last = now

    def finished(self, reason: str) -> None:
        """The request is answered."""
        self._latencies.whole.observe(perf_counter() - self._arrival)
        self._latencies.generated.observe(self._tokens)
        if self._last is not None:
            self._latencies.decode.observe(self._last - self._first)
        self._latencies.answered(reason)
