"""Heads that are too long are refused before they are held; how a request may be called."""

import socket
from collections.abc import Iterator

import pytest

from infergc.server.entrance.head_limit import MOST_HEAD
from infergc.server.observing.observed import MOST_ID, REQUEST_ID
from samples import served_model, slow_sim
from samples.servers import PATIENCE, Server, serving

BEGINNING = b"GET /health HTTP/1.1\r\nhost: a\r\n"
LONG = b"a" * MOST_HEAD
MANY = b"a: b\r\n" * (MOST_HEAD // 4)
CHUNKED = b"POST /tokenize HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
BODY = b'{"prompt": "' + LONG * 4 + b'"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = served_model.save(tmp_path_factory.mktemp("served") / "tiny")
    with serving(model, "--executor", slow_sim.NAME) as running:
        yield running


@pytest.fixture
def raw(server: Server) -> Iterator[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        yield connection


def answers(raw: socket.socket) -> bytes:
    """All that comes until the server closes."""
    told = b""
    while piece := raw.recv(65536):
        told += piece
    return told


HEADS = {
    "one header": BEGINNING + b"x: " + LONG,  # which never ends
    "a name": BEGINNING + LONG,
    "a path": b"GET /" + LONG,
    "many headers": BEGINNING + MANY,
    "a whole head": BEGINNING + b"x: " + LONG + b"\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("before", [b"", BEGINNING + b"\r\n"], ids=["first", "kept alive"])
def test_a_head_that_is_too_long_gets_431(raw: socket.socket, before: bytes, head: bytes) -> None:
    if before:
        raw.sendall(before)
        told = b""
        while not told.endswith(b"}"):
            told += raw.recv(65536)
    raw.sendall(head[:20])
    raw.sendall(head[20:])
    raw.sendall(LONG * 8)  # more than one read, in which the head may have begun
    told = answers(raw)
    assert told.startswith(b"HTTP/1.1 431")
    assert b"connection: close" in told
    assert b"larger than the 64.0 KiB allowed" in told


def test_in_the_middle_of_another_answer_there_is_none(server: Server, raw: socket.socket) -> None:
    body = b'{"prompt": "a", "max_tokens": 900, "ignore_eos": true, "stream": true}'
    raw.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n")
    raw.sendall(b"content-length: %d\r\n\r\n" % len(body) + body)
    assert raw.recv(100).startswith(b"HTTP/1.1 200")
    raw.sendall(BEGINNING + MANY)
    assert b" 431 " not in answers(raw)
    server.wait_until_idle()


@pytest.mark.parametrize("trailers", [MANY, b"a: " + LONG * 8], ids=["many", "long"])
def test_trailers_count(raw: socket.socket, trailers: bytes) -> None:
    raw.sendall(CHUNKED + b"d\r\n" + b'{"prompt":"a"' + b"\r\n0\r\n")
    raw.sendall(trailers)
    assert b"HTTP/1.1 200" not in answers(raw)


def test_bodies_do_not_count(raw: socket.socket) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:100], BODY[100:200_000], BODY[200_000:]))
    plain = b"POST /tokenize HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    raw.sendall(plain % len(BODY) + BODY)
    assert raw.recv(100).startswith(b"HTTP/1.1 200")
    raw.sendall(CHUNKED + chunks + b"0\r\n\r\n" + BEGINNING + b"connection: close\r\n\r\n")
    assert answers(raw).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("name", ["mine", "a" * MOST_ID])
def test_a_request_keeps_its_name(server: Server, name: str) -> None:
    assert server.http.get("/health", headers={REQUEST_ID: name}).headers[REQUEST_ID] == name


@pytest.mark.parametrize("name", ["", "a" * (MOST_ID + 1), "a\tb", "é"])
def test_a_name_that_is_not_fit_is_replaced(server: Server, name: str) -> None:
    assert len(server.http.get("/health", headers={REQUEST_ID: name.encode()}).headers[REQUEST_ID]) == 32
