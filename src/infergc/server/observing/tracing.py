"""OpenTelemetry traces: a span for each HTTP request, sent in batches by a thread of the library's."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infergc import __version__
from infergc.config import ConfigError
from infergc.server.answers.generation import Report
from infergc.server.entrance.gate import CHAT, COMPLETIONS
from infergc.server.observing.observed import Observer
from infergc.server.observing.record import Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_FLAG = "--otlp-traces-endpoint"
_LAST_WORDS = 2.0  # seconds that the end waits for spans to be sent
_OPERATIONS = {CHAT: "chat", COMPLETIONS: "text_completion"}
_SERVER_FAULT = 500


class TracingError(RuntimeError):
    """Traces cannot be sent; the message says what to do."""


@contextmanager
def tracing(endpoint: str, model: str, say: Callable[[str], None]) -> Iterator[Observer]:
    """An observer that sends a span of each request, which continues the trace of its ``traceparent`` (W3C).

    What OpenTelemetry reads from the environment holds: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, headers and more.
    Names are those of its conventions for generative AI, and vLLM's ``gen_ai.latency.*``.

    Args:
        endpoint: URL that takes OTLP over HTTP.
        model: the model's name in the API.
        say: is called where spans are lost, perhaps from another thread.

    Raises:
        ConfigError: it is no such URL.
        TracingError: the extra is not installed.
    """
    _check_url(endpoint)
    provider, observer = _tracer(endpoint, model, say)
    with _quiet_library():
        try:
            yield observer
        finally:
            closing = Thread(target=provider.shutdown, name="last-spans", daemon=True)
            closing.start()
            closing.join(_LAST_WORDS)
            if closing.is_alive():
                say(f"The last spans were not taken by {endpoint} within {_LAST_WORDS:g} s ({_FLAG}); they are lost")


@contextmanager
def _quiet_library() -> Iterator[None]:
    """``SpanSender`` says once what OpenTelemetry's loggers would say in three lines of each batch."""
    logger = logging.getLogger("opentelemetry")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_url(endpoint: str) -> None:
    try:
        place = urlsplit(endpoint)
        is_url = place.scheme in {"http", "https"} and bool(place.hostname) and place.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(f"{_FLAG}: must be a URL such as http://127.0.0.1:4318/v1/traces, not {endpoint!r}")


def _tracer(endpoint: str, model: str, say: Callable[[str], None]) -> tuple["TracerProvider", Observer]:
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - an extra
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - an extra
            TraceContextTextMapPropagator,
        )

        from infergc.server.observing.span_sender import SpanSender  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise TracingError(f"{_FLAG}: needs OpenTelemetry ({error}); pip install 'infergc[otel]'") from error
    name = os.environ.get("OTEL_SERVICE_NAME") or "infergc"
    resource = Resource.create({"service.name": name, "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(SpanSender(endpoint, _FLAG, say)))
    tracer, propagator = provider.get_tracer("infergc", __version__), TraceContextTextMapPropagator()

    def trace(record: Record) -> None:
        span = tracer.start_span(
            _name(record, model),
            propagator.extract(record.headers),
            SpanKind.SERVER,
            attributes_of(record, model),
            start_time=_nanoseconds(record.time),
        )
        if record.status >= _SERVER_FAULT:
            span.set_status(StatusCode.ERROR, record.error)
        span.end(_nanoseconds(record.time + record.ended - record.arrival))

    return provider, trace


def _name(record: Record, model: str) -> str:
    """As the conventions want it: few names, so no path that a client may choose."""
    operation = _OPERATIONS.get(record.path)
    return record.method if operation is None else f"{operation} {model}"


def attributes_of(record: Record, model: str) -> dict[str, Any]:
    """The attributes of a request's span; what is not known is left out."""
    found = {
        "http.request.method": record.method,
        "http.response.status_code": record.status,
        "url.path": record.path,
        "error.type": record.error or None,
        "gen_ai.request.id": record.request_id,
        "infergc.tenant": record.tenant or None,
    }
    if record.generation is not None:
        report = record.generation.report()
        found |= _asked(record, model, report) | _given(model, report)
        found["gen_ai.latency.e2e"] = record.ended - record.arrival
    return {name: value for name, value in found.items() if value is not None}


def _asked(record: Record, model: str, report: Report) -> dict[str, Any]:
    params = report.params
    return {
        "gen_ai.operation.name": _OPERATIONS.get(record.path),
        "gen_ai.provider.name": "infergc",
        "gen_ai.request.model": model,
        "gen_ai.request.stream": record.is_streamed,
        "gen_ai.request.choice.count": params.n,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.top_k": params.top_k,
        "gen_ai.request.frequency_penalty": params.frequency_penalty,
        "gen_ai.request.presence_penalty": params.presence_penalty,
    }


def _given(model: str, report: Report) -> dict[str, Any]:
    usage = report.usage
    return {
        "gen_ai.response.model": model,
        "gen_ai.response.finish_reasons": [reason or "error" for reason in report.finish_reasons],
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.prompt_tokens_details.cached_tokens,
        "gen_ai.latency.time_in_queue": report.queued,
        "gen_ai.latency.time_to_first_token": report.first,
        "infergc.preemptions": report.preemptions,
    }


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
