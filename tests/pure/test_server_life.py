"""Clients that go away, connections that are too many, steps that fail, processes that are killed."""

import gc
import json
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from infergc.server.entrance.crowd import allow_files
from infergc.server.run import _frozen, _listen
from samples import served_model, slow_sim
from samples.servers import PATIENCE, Server, infergc, infergc_result, post_and_leave, serving, wait_for

LONG = {"prompt": "hello", "max_tokens": 900, "ignore_eos": True, "seed": 1}

FAULTS = (
    "step_failures_total",
    "requests_retried_total",
    'allocation_failures_total{where="step"}',
    'requests_finished_total{reason="error"}',
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model, "--executor", slow_sim.NAME) as running:
        yield running


@pytest.fixture(scope="module")
def dawdler(model: Path) -> Iterator[Server]:
    """A server of which a long request is sure to run still, whatever held the test up."""
    with serving(model, "--executor", slow_sim.DAWDLING) as running:
        yield running


def test_small_pieces_are_sent_at_once() -> None:
    """Without this an answer's body, and every token, waits 40 ms for the client to acknowledge what was before."""
    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_full_collections_leave_out_what_the_start_has_left() -> None:
    before = gc.get_freeze_count()
    with _frozen():
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() <= before


def aborted(server: Server) -> float:
    return server.metrics()['infergc_requests_finished_total{reason="abort"}']


def first_frames(answer: httpx.Response, count: int) -> Iterator[str]:
    """Read so many; returns what comes after. Hold it: httpx closes the connection with the iterator."""
    lines = (line for line in answer.iter_lines() if line)
    assert all(next(lines) for _ in range(count))
    return lines


def test_a_client_that_leaves_a_stream_frees_its_request(dawdler: Server) -> None:
    before = aborted(dawdler)
    with dawdler.http.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as answer:
        rest = first_frames(answer, 3)
        assert dawdler.requests("running") == 1, "tokens are sent as they come"
        assert dawdler.pages("live") > 0
        assert next(rest)
    wait_for(lambda: aborted(dawdler) == before + 1)
    dawdler.wait_until_idle()


def test_a_client_that_does_not_wait_for_its_answer_frees_its_request(dawdler: Server) -> None:
    before = aborted(dawdler)
    chat = {"messages": [{"role": "user", "content": "a"}], "ignore_eos": True}
    with post_and_leave(dawdler, "/v1/chat/completions", chat):
        wait_for(lambda: dawdler.requests("running") == 1)
    wait_for(lambda: aborted(dawdler) == before + 1)
    dawdler.wait_until_idle()


def test_a_batch_is_aborted_whole(dawdler: Server) -> None:
    before = aborted(dawdler)
    with post_and_leave(dawdler, "/v1/completions", {**LONG, "prompt": ["a", "b", "c"], "stream": True}):
        wait_for(lambda: dawdler.requests("running") == 3)
    wait_for(lambda: aborted(dawdler) == before + 3)
    dawdler.wait_until_idle()


def test_a_client_that_reads_slowly_gets_everything(server: Server) -> None:
    text = server.http.post("/v1/completions", json=LONG).json()["choices"][0]["text"]
    with server.http.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as answer:
        wait_for(lambda: not server.requests("running"))
        *frames, done = [line for line in answer.iter_lines() if line]
    assert done == "data: [DONE]"
    frames = [json.loads(line[6:]) for line in frames]
    assert "".join(frame["choices"][0]["text"] for frame in frames) == text


def text_of(stream: str) -> str:
    """What the frames of a streamed completion say together."""
    *frames, done = [line for line in stream.splitlines() if line]
    assert done == "data: [DONE]"
    return "".join(json.loads(frame.removeprefix("data: "))["choices"][0]["text"] for frame in frames)


def test_a_request_that_fails_its_steps_is_told_so_and_no_other(server: Server, dawdler: Server) -> None:
    bodies = [{**LONG, "max_tokens": 200, "seed": seed, "stream": True} for seed in range(3)]
    expected = [text_of(server.http.post("/v1/completions", json=body).text) for body in bodies]
    fails = {**LONG, "prompt": [slow_sim.FAILS]}
    before = dawdler.metrics()
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(dawdler.http.post, "/v1/completions", json=body) for body in bodies]
        wait_for(lambda: dawdler.requests("running") == 3)
        failed = dawdler.http.post("/v1/completions", json=fails)
        assert failed.status_code == 503
        error = failed.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "request_failed")
        assert "out of memory, for a test" in error["message"]
        assert "--max-num-batched-tokens" in error["message"]
        streamed = dawdler.http.post("/v1/completions", json={**fails, "stream": True})
        assert streamed.status_code == 503, "the status is sent after the first news"
        assert dawdler.http.get("/health").status_code == 200
        assert dawdler.requests("running") == 3, "they were over before anything failed"
        assert [text_of(other.result(PATIENCE).text) for other in others] == expected
    after = dawdler.metrics()
    gained = {name: after[f"infergc_{name}"] - before[f"infergc_{name}"] for name in FAULTS}
    assert gained["step_failures_total"] == gained['allocation_failures_total{where="step"}'] >= 4
    assert gained['requests_finished_total{reason="error"}'] == 2
    assert gained["requests_retried_total"] > 2
    dawdler.wait_until_idle()


def test_an_engine_that_begins_anew_drops_no_request(model: Path) -> None:
    bodies = [{**LONG, "max_tokens": 200, "seed": seed, "stream": True} for seed in range(3)]
    with serving(model, "--executor", slow_sim.DAWDLING, tracebacks=1) as server, ThreadPoolExecutor() as pool:
        expected = [text_of(server.http.post("/v1/completions", json=body).text) for body in bodies]
        others = [pool.submit(server.http.post, "/v1/completions", json=body) for body in bodies]
        wait_for(lambda: server.requests("running") == 3)
        loses = server.http.post("/v1/completions", json={**LONG, "max_tokens": 5, "prompt": [slow_sim.LOSES]})
        assert loses.status_code == 200
        assert server.requests("running") == 3, "they were over before anything failed"
        assert [text_of(other.result(PATIENCE).text) for other in others] == expected
        metrics = server.metrics()
        assert metrics["infergc_engine_resumptions_total"] == 1
        assert metrics["infergc_engine_restarts_total"] == metrics["infergc_step_failures_total"] == 0
        assert metrics['infergc_requests_finished_total{reason="length"}'] == 7


def test_many_clients_half_of_them_leaving(dawdler: Server) -> None:
    server = dawdler
    before = server.metrics()['infergc_requests_finished_total{reason="length"}']

    def request(number: int) -> str:
        body = {**LONG, "prompt": f"client {number}", "seed": number, "stream": number % 3 == 0}
        if number % 2:
            return server.http.post("/v1/completions", json={**body, "max_tokens": 20}).text
        if body["stream"]:
            with server.http.stream("POST", "/v1/completions", json=body) as answer:
                first_frames(answer, 2)
        else:
            with pytest.raises(httpx.ReadTimeout):
                server.http.post("/v1/completions", json=body, timeout=httpx.Timeout(PATIENCE, read=0.05))
        return ""

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(request, range(60)))
    assert sum("length" in answer for answer in answers) == 30
    server.wait_until_idle()
    assert server.metrics()['infergc_requests_finished_total{reason="length"}'] == before + 30
    total = sum(server.pages(state) for state in ("free", "cached"))
    assert total == server.metrics()['infergc_kv_pages_capacity{group="full",tier="device"}']


def test_the_engine_ends_with_a_server_that_is_killed(model: Path) -> None:
    with infergc("serve", model, "--port", "0", "--executor", slow_sim.NAME) as process:
        Server(process).http.close()
        (engine,) = psutil.Process(process.pid).children()
        process.kill()
        assert psutil.wait_procs([engine], timeout=PATIENCE)[0]


def test_a_port_in_use_is_said_before_anything_is_loaded(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = infergc_result("serve", model, "--port", str(port))
    assert (code, out) == (1, "")
    assert err == (
        f"Error: --host, --port: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another with --port, or --port 0 for any free one\n"
    )


def test_a_long_text_is_tokenised_beside_the_event_loop(server: Server) -> None:
    """Other clients are answered meanwhile: always, but a machine that halts is told from a loop that does once."""
    assert any(others_are_answered_while_it_counts(server) for _ in range(8))


def others_are_answered_while_it_counts(server: Server) -> bool:
    """Many times, none of them long after the question beside the time that the counting takes."""
    text = "the quick brown fox " * 100_000
    start, slowest, answers = time.monotonic(), 0.0, 0
    with ThreadPoolExecutor() as pool:
        counted = pool.submit(server.http.post, "/tokenize", json={"prompt": text})
        while not counted.done():
            begun = time.monotonic()
            assert server.http.get("/health").status_code == 200
            slowest, answers = max(slowest, time.monotonic() - begun), answers + 1
    assert counted.result().json()["count"] > 100_000
    return answers > 10 and slowest < (time.monotonic() - start) / 3


def test_a_silent_connection_harms_nobody(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                       b"Content-Length: 100\r\n\r\n{")  # fmt: skip
        assert server.http.post("/v1/completions", json={**LONG, "max_tokens": 2}).status_code == 200
    assert server.http.get("/health").status_code == 200


def test_of_connections_that_are_too_many_probes_alone_are_served(model: Path) -> None:
    """Whoever is turned away can come again as soon as another has left."""
    with serving(model, "--executor", slow_sim.NAME, "--max-connections", "3") as server:
        short = {**LONG, "max_tokens": 2}
        host, port = server.url.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(3)]
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            assert client.get("/health").status_code == 200
            assert server.metrics()["infergc_engine_up"] == 1
            for body in (short, {**short, "prompt": "x" * 5_000_000}):
                answer = client.post("/v1/completions", json=body)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_connections")
                assert (answer.headers["connection"], answer.headers["retry-after"]) == ("close", "1")
        for connection in idle:
            connection.close()
        wait_for(lambda: server.http.post("/v1/completions", json=short).status_code == 200)


def test_as_many_files_may_be_open_as_connections_need() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        allow_files(100)
        assert 100 < resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= before[1]
        allow_files(1 << 20)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
