"""Traces of a real server, taken by a receiver of our own that speaks OTLP over HTTP."""

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from infergc.server.entrance.tenants import Keyring
from infergc.server.observing.tracing import TracingError, tracing
from infergc.server.settings import ServerSettings
from samples import served_model, slow_sim
from samples.servers import Server, infergc_result, serving, untimed, wait_for

SHORT = {"prompt": "hello", "max_tokens": 3, "ignore_eos": True, "seed": 1, "temperature": 0.5, "n": 2}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FLAG = "--otlp-traces-endpoint"


class Receiver(ThreadingHTTPServer):
    """Takes spans; while ``stuck`` is clear it answers nothing."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.spans: list[dict[str, Any]] = []
        self.resources: list[dict[str, Any]] = []
        self.answers = Event()
        self.answers.set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1/traces"

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: PLC0415 - an extra

        message = ExportTraceServiceRequest.FromString(body)
        for of_resource in message.resource_spans:
            self.resources.append(_values(of_resource.resource.attributes))
            for scope in of_resource.scope_spans:
                self.spans += [{"span": span, **_values(span.attributes)} for span in scope.spans]

    def span_of(self, request_id: str) -> dict[str, Any]:
        wait_for(lambda: any(span["gen_ai.request.id"] == request_id for span in self.spans))
        (span,) = (span for span in self.spans if span["gen_ai.request.id"] == request_id)
        return span


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if not self.server.answers.wait(30):
            return
        self.server.take(body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        pass


def _values(attributes: Any) -> dict[str, Any]:
    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        given = getattr(any_value, kind)
        return [value(one) for one in given.values] if kind == "array_value" else given

    return {attribute.key: value(attribute.value) for attribute in attributes}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="infergc[otel] is not installed")
    return served_model.save(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()


@pytest.fixture(scope="module")
def server(model: Path, receiver: Receiver) -> Iterator[Server]:
    with serving(
        model, "--executor", slow_sim.NAME, FLAG, receiver.url, "--api-key", "secret", OTEL_BSP_SCHEDULE_DELAY="50"
    ) as running:
        running.http.headers["authorization"] = "Bearer secret"
        yield running


def post(server: Server, name: str, body: dict[str, Any], **headers: str) -> int:
    headers = {"x-request-id": name, **headers}
    return server.http.post("/v1/completions", json=body, headers=headers).status_code


@pytest.mark.parametrize("stream", [False, True])
def test_a_span_continues_the_trace_of_its_request(server: Server, receiver: Receiver, stream: bool) -> None:
    name = f"continued-{stream}"
    assert post(server, name, {**SHORT, "stream": stream}, traceparent=f"00-{TRACE}-{PARENT}-01") == 200
    found = receiver.span_of(name)
    span = found.pop("span")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert (span.name, span.kind, span.status.code) == ("text_completion tiny", 2, 0)
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    assert found.pop("gen_ai.latency.e2e") == pytest.approx(seconds, abs=1e-5)
    assert 0 <= found.pop("gen_ai.latency.time_in_queue") < found.pop("gen_ai.latency.time_to_first_token") < seconds
    assert found == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/v1/completions",
        "gen_ai.request.id": name,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "infergc",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.stream": stream,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": found["gen_ai.request.top_k"],
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.response.model": "tiny",
        "gen_ai.response.finish_reasons": ["length", "length"],
        "gen_ai.usage.input_tokens": found["gen_ai.usage.input_tokens"],
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "infergc.preemptions": 0,
        "infergc.tenant": Keyring(["secret"]).tenant(b"secret").label,
    }
    assert receiver.resources[0]["service.name"] == "infergc"


def test_refusals_and_failures_have_spans(server: Server, receiver: Receiver) -> None:
    post(server, "bad", {**SHORT, "n": 0})
    post(server, "stranger", SHORT, authorization="Bearer wrong")
    post(server, "failed", {**SHORT, "n": 1, "prompt": [slow_sim.FAILS]})
    told = {}
    for name in ("bad", "stranger", "failed"):
        found = receiver.span_of(name)
        told[name] = (found["http.response.status_code"], found["error.type"], found["span"].status.code)
        assert not found["span"].parent_span_id
    assert told == {
        "bad": (400, "invalid_value", 0),
        "stranger": (401, "invalid_api_key", 0),
        "failed": (503, "request_failed", 2),
    }


def test_who_is_not_sampled_has_no_span_and_nonsense_begins_a_trace(server: Server, receiver: Receiver) -> None:
    post(server, "unsampled", SHORT, traceparent=f"00-{TRACE}-{PARENT}-00")
    post(server, "nonsense", SHORT, traceparent="what?")
    assert receiver.span_of("nonsense")["span"].trace_id.hex() != TRACE
    assert not [span for span in receiver.spans if span["gen_ai.request.id"] == "unsampled"]


def test_the_last_spans_leave_when_the_server_stops(model: Path, receiver: Receiver) -> None:
    with serving(model, "--executor", slow_sim.NAME, FLAG, receiver.url, OTEL_BSP_SCHEDULE_DELAY="60000") as server:
        post(server, "last", SHORT)
        assert not [span for span in receiver.spans if span["gen_ai.request.id"] == "last"]
    assert receiver.span_of("last")


def test_nobody_at_the_endpoint_disturbs_nobody(model: Path) -> None:
    flags = ("--executor", slow_sim.NAME, FLAG, "http://127.0.0.1:9/v1/traces")
    with serving(model, *flags, OTEL_BSP_SCHEDULE_DELAY="20") as server:
        assert [post(server, "", SHORT) for _ in range(10)] == [200] * 10
        _, err = server.stop()
    assert all(FLAG in line for line in untimed(err).splitlines()[1:]), "the library's loggers are quiet"


def test_when_spans_are_taken_again_it_says_how_many_were_lost(model: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    flags = ("--executor", slow_sim.NAME, FLAG, f"http://127.0.0.1:{port}/v1/traces")
    with serving(model, *flags, OTEL_BSP_SCHEDULE_DELAY="20") as server:
        server.said()
        post(server, "nobody-there", SHORT)
        assert server.said().endswith(" does not take spans; requests are served, these are lost\n")
        with Receiver(port) as late:
            Thread(target=late.serve_forever, daemon=True).start()
            post(server, "again", SHORT)
            assert server.said() == f"Spans are taken again by {flags[-1]} ({FLAG}); 1 span lost\n"
            assert late.span_of("again")
            late.shutdown()


def test_a_stuck_endpoint_does_not_hold_up_the_end(model: Path, receiver: Receiver) -> None:
    receiver.answers.clear()
    try:
        with serving(model, "--executor", slow_sim.NAME, FLAG, receiver.url, OTEL_BSP_SCHEDULE_DELAY="20") as server:
            assert [post(server, "", SHORT) for _ in range(3)] == [200] * 3
            code, err = server.stop()
            assert code == 0
            assert f"The last spans were not taken by {receiver.url} within 2 s" in err
    finally:
        receiver.answers.set()


@pytest.mark.parametrize("url", ["", "localhost:4318", "ftp://x/", "http://", "http://x:99999/"])
def test_what_is_no_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match=f"{FLAG}: must be a URL such as http"), tracing(url, "tiny", print):
        pass


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingError, match=r"pip install 'infergc\[otel\]'"), tracing("http://x/", "tiny", print):
        pass


def test_a_bad_url_ends_the_command_in_a_line(model: Path) -> None:
    code, _, err = infergc_result("serve", model, "--port", "0", FLAG, "nowhere")
    assert code == 2
    assert err.strip().splitlines()[-1].startswith(f"Error: {FLAG}: must be a URL")
    assert ServerSettings("tiny").otlp_traces_endpoint is None, "off unless asked for"
