"""Latencies that clients see, and how many requests were answered."""

from collections.abc import Sequence
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter

from infergc.server.metrics.histogram import Distribution
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
    """The times of one request, in seconds.

    Attributes:
        first: from its arrival to its first token; None until that has come.
        span: from the first token to the last so far.
        gaps: tokens after the first: the span is what they took.
        longest: the longest time that nothing came in between.
    """

    def __init__(self, latencies: Latencies, arrival: float) -> None:
        self._latencies = latencies
        self._arrival = arrival
        self._last = 0.0
        self.first: float | None = None
        self.span = 0.0
        self.gaps = 0
        self.longest = 0.0

    def tokens(self, count: int) -> None:
        """``count`` tokens came together: they share the time since the last, and those with the first took none."""
        if count == 0:
            return
        now = perf_counter()
        if self.first is None:
            self.first = now - self._arrival
            self._latencies.first.observe(self.first)
            self._last, count = now, count - 1
        if count:
            gap = now - self._last
            self._latencies.between.observe(gap / count, count)
            self.span += gap
            self.gaps += count
            self.longest = max(self.longest, gap)
        self._last = now

    def finished(self, reason: str) -> None:
        """The request is answered."""
        self._latencies.whole.observe(perf_counter() - self._arrival)
        self._latencies.generated.observe(self.gaps + (self.first is not None))
        if self.first is not None:
            self._latencies.decode.observe(self.span)
        self._latencies.answered(reason)
