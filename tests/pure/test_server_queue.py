"""A real server whose queue is full: who comes too many is told so at once, and no place is ever lost."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from infergc.server.entrance.gate import GENERATING
from samples import served_model, slow_sim
from samples.inspection import ADMIN_KEY, dump_of
from samples.servers import PATIENCE, Server, post_and_leave, serving, wait_for

SLOTS, QUEUE = 2, 3
LONG = {"prompt": "hello", "max_tokens": 900, "ignore_eos": True, "seed": 1}
SHORT = {**LONG, "max_tokens": 2}
LENGTH, READING = "infergc_queue_requests", "infergc_queue_reading_requests"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    flags = ("--max-num-seqs", str(SLOTS), "--max-num-queued-reqs", str(QUEUE), "--api-key", "key")
    with serving(model, "--executor", slow_sim.DAWDLING, *flags) as running:
        running.http.headers["authorization"] = "Bearer key"
        yield running


@pytest.fixture(autouse=True)
def no_place_is_lost(server: Server) -> Iterator[None]:
    yield
    wait_for(lambda: not server.requests("running") + server.requests("waiting"))
    figures = server.metrics()
    assert (figures[LENGTH], figures[READING]) == (0, 0)
    assert server.http.post("/v1/completions", json=SHORT).status_code == 200


def refused(server: Server, reason: str = "queue_full") -> float:
    return server.metrics()[f'infergc_requests_refused_total{{reason="{reason}"}}']


@contextmanager
def head(server: Server, length: int, path: str = "/v1/completions", key: str = "key") -> Iterator[socket.socket]:
    """The head of a request whose body is still to be sent."""
    host, port = server.url.removeprefix("http://").split(":")
    lines = (f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {length}",
             f"Authorization: Bearer {key}")  # fmt: skip
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        raw.sendall("\r\n".join((*lines, "", "")).encode())
        yield raw


def received(raw: socket.socket, last: bytes) -> bytes:
    """What comes, to the end of this."""
    answer = b""
    while last not in answer:
        answer += (more := raw.recv(4096))
        assert more, f"the connection was closed after {answer!r}"
    return answer


@contextmanager
def full(server: Server, body: dict[str, Any] = LONG) -> Iterator[None]:
    """Every slot and every place is taken, for as long as the block takes."""
    with ThreadPoolExecutor(SLOTS + QUEUE) as pool, httpx.Client(headers=server.http.headers, timeout=PATIENCE) as http:
        streams = ExitStack()
        with streams:
            for at in range(SLOTS):
                streams.enter_context(
                    http.stream("POST", f"{server.url}/v1/completions", json={**body, "stream": True})
                )
                wait_for(lambda: server.requests("running") == at + 1)  # noqa: B023 - at once
            asked = [pool.submit(http.post, f"{server.url}/v1/completions", json=SHORT) for _ in range(QUEUE)]
            wait_for(lambda: server.metrics()[LENGTH] == QUEUE)
            yield
        assert [one.result().status_code for one in asked] == [200] * QUEUE


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "queue_full", None)
    assert f"{QUEUE} of at most {QUEUE} requests wait (--max-num-queued-reqs)" in error["message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True])
def test_who_comes_too_many_is_refused(server: Server, stream: bool) -> None:
    before = refused(server)
    with full(server):
        assert_refused(server.http.post("/v1/completions", json={**SHORT, "stream": stream}))
        chat = {"messages": [{"role": "user", "content": "a"}], "stream": stream}
        assert_refused(server.http.post("/v1/chat/completions", json=chat))
        assert server.http.get("/health").status_code == 200, "saturation is no illness"
        assert server.http.post("/tokenize", json={"prompt": "hello"}).status_code == 200
    assert refused(server) == before + 2


def test_the_answer_does_not_wait_for_a_body_nor_for_it_to_make_sense(server: Server) -> None:
    with full(server):
        with head(server, 8 * 1024**2) as raw:
            answer = received(raw, b'"queue_full"}}')
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: " in answer
        assert_refused(server.http.post("/v1/completions", content=b"no JSON"))


def test_the_connection_goes_on_after_a_refusal(server: Server) -> None:
    body = json.dumps({**SHORT, "prompt": "hello " * 100_000}).encode()
    with full(server), head(server, len(body)) as raw:
        assert b" 429 " in received(raw, b'"queue_full"}}')
        raw.sendall(body)
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert received(raw, b'"ready"}').startswith(b"HTTP/1.1 200 ")


def test_who_has_no_key_takes_no_place(server: Server) -> None:
    with full(server), head(server, 9, key="wrong") as raw:
        assert raw.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_body_on_its_way_has_a_place_until_its_client_leaves(server: Server) -> None:
    with ExitStack() as heads:
        for path in sorted(GENERATING) * ((SLOTS + QUEUE + 1) // 2):
            heads.enter_context(head(server, 100, path))
        wait_for(lambda: server.metrics()[READING] == SLOTS + QUEUE)
        assert_refused(server.http.post("/v1/completions", json=SHORT))
    wait_for(lambda: not server.metrics()[READING])


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b'{"prompt": ""}',
        b'{"prompt": "a", "n": 0}',
        b'{"prompt": "a", "n": 9}',
        b'{"prompt": "a", "model": "other"}',
        b'{"prompt": "' + b"hello " * 100_000 + b'"}',
    ],
)
def test_a_bad_request_gives_its_place_back(server: Server, bad: bytes) -> None:
    for _ in range(2 * (SLOTS + QUEUE)):
        answer = server.http.post("/v1/completions", content=bad, headers={"content-type": "application/json"})
        assert answer.status_code in {400, 404}, answer.text


def test_a_batch_counts_as_many_and_alone_it_has_room(server: Server) -> None:
    batch = {**SHORT, "prompt": ["a"] * (SLOTS + QUEUE + 2)}
    answer = server.http.post("/v1/completions", json=batch)
    assert len(answer.json()["choices"]) == len(batch["prompt"])
    with server.http.stream("POST", "/v1/completions", json={**LONG, "stream": True}):
        answer = server.http.post("/v1/completions", json=batch)
        assert answer.status_code == 429
        assert "and this one would bring 6 more" in answer.json()["error"]["message"]
        fits = server.http.post("/v1/completions", json={**SHORT, "n": 2, "prompt": ["a", "b"]})
        assert len(fits.json()["choices"]) == 4


def test_openai_clients_understand_it_and_come_again(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="key", max_retries=0) as impatient, full(server):
        with pytest.raises(openai.RateLimitError) as caught:
            impatient.completions.create(model="tiny", prompt="a", max_tokens=2)
        assert caught.value.code == "queue_full"
    patient = openai.OpenAI(base_url=f"{server.url}/v1", api_key="key", max_retries=9)
    with patient, ThreadPoolExecutor(1) as pool:
        with full(server):
            before = refused(server)
            asked = pool.submit(patient.completions.create, model="tiny", prompt="a", max_tokens=2)
            wait_for(lambda: refused(server) > before)
        assert asked.result(PATIENCE).usage.completion_tokens == 2


# ---- waiting for too long


@pytest.fixture(scope="module")
def hasty(model: Path) -> Iterator[Server]:
    flags = ("--executor", slow_sim.DAWDLING, "--max-num-seqs", "1", "--queue-timeout", "3")
    with serving(model, *flags, INFERGC_ADMIN_KEY=ADMIN_KEY) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True])
def test_who_is_not_started_in_time_gets_503(hasty: Server, stream: bool) -> None:
    before = refused(hasty, "queue_timeout")
    with post_and_leave(hasty, "/v1/completions", LONG):
        wait_for(lambda: hasty.requests("running") == 1)
        began = time.monotonic()
        asked = {**SHORT, "queue_timeout": 1, "stream": stream, "n": 1}
        answer = hasty.http.post("/v1/completions", json=asked)
        assert time.monotonic() - began >= 1
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "queue_timeout")
        assert error["message"].startswith("the request was not started in time: ")
        assert "(1 s, its queue_timeout); try again in " in error["message"]
        late = hasty.http.post("/v1/completions", json=SHORT).json()["error"]
        assert late["code"] == "queue_timeout", "the server's"
        assert "(3 s, --queue-timeout); " in late["message"]
        assert hasty.requests("running") == 1, "who has started goes on"
    assert refused(hasty, "queue_timeout") == before + 2
    hasty.wait_until_idle()
    figures = hasty.metrics()
    assert figures['infergc_requests_finished_total{reason="timeout"}'] == refused(hasty, "queue_timeout")
    waited = figures['infergc_queue_seconds_total{reason="slots"}']
    assert waited >= 4
    found = dump_of(hasty)
    assert found["queue"] == {"waiting": 0, "unstarted": 0, "waits_for": ""}
    assert found["queue_seconds"]["slots"] == waited
    assert figures["infergc_request_queue_time_seconds_count"] > 0
    assert hasty.http.post("/v1/completions", json=SHORT).status_code == 200


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "queue_timeout: 0 is not allowed; it must be a whole number of seconds from 1 to 86400"),
        (1.5, "queue_timeout: "),
        ("1", "queue_timeout: "),
        (4, "queue_timeout: 4 is not allowed; this server lets no request wait longer than 3 s (--queue-timeout)"),
    ],
)
def test_a_bad_time_is_refused_by_name(hasty: Server, value: object, words: str) -> None:
    answer = hasty.http.post("/v1/completions", json={**SHORT, "queue_timeout": value})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(words)
    assert answer.json()["error"]["param"] == "queue_timeout"


def test_where_nobody_may_wait_a_free_slot_is_enough(model: Path) -> None:
    flags = ("--max-num-seqs", "2", "--max-num-queued-reqs", "0")
    with serving(model, "--executor", slow_sim.DAWDLING, *flags) as server:
        assert [server.http.post("/v1/completions", json=SHORT).status_code for _ in range(5)] == [200] * 5
        with post_and_leave(server, "/v1/completions", {**LONG, "n": 2}):
            wait_for(lambda: server.requests("running") == 2)
            assert server.http.post("/v1/completions", json=SHORT).status_code == 429
        server.wait_until_idle()
        assert server.http.post("/v1/completions", json=SHORT).status_code == 200
