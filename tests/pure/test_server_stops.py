"""A server that is told to stop, once, twice and thrice: who is served to the end, who is told to go elsewhere."""

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import psutil
import pytest

from samples import served_model, slow_sim
from samples.servers import PATIENCE, Server, infergc, serving, untimed, wait_for

LONG = {"prompt": "hello", "max_tokens": 900, "ignore_eos": True, "seed": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def dawdling(model: Path, *flags: str, **options: int) -> AbstractContextManager[Server]:
    return serving(model, "--executor", slow_sim.DAWDLING, *flags, **options)


def stream(server: Server, number: int, tokens: int) -> list[str]:
    """The frames of a stream, read to its end on a connection of its own."""
    body = {**LONG, "prompt": f"client {number}", "seed": number, "max_tokens": tokens, "stream": True}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=PATIENCE)
    return [line.removeprefix("data: ") for line in answer.text.splitlines() if line]


def texts(streams: list[list[str]]) -> list[str]:
    assert all(frames[-1] == "[DONE]" for frames in streams)
    chunks = [[json.loads(frame)["choices"][0] for frame in frames[:-1]] for frames in streams]
    assert all(chunk[-1]["finish_reason"] == "length" for chunk in chunks)
    return ["".join(choice["text"] for choice in chunk) for chunk in chunks]


def test_under_load_all_that_was_accepted_finishes_and_others_are_sent_on(
    model: Path, clients: ThreadPoolExecutor
) -> None:
    """Of eight streams two run and six wait; all are told to their end, as they are where nobody stops anything."""
    with dawdling(model, "--max-num-seqs", "2", "--shutdown-timeout", str(PATIENCE)) as server:
        engine = psutil.Process(server.process.pid).children()[0]
        alone = texts([stream(server, at, 40) for at in range(2)])
        asked = [clients.submit(stream, server, at, 40) for at in range(8)]
        wait_for(lambda: server.requests("running") == 2 and server.requests("waiting") == 6)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.http.get("/health").status_code == 503)
        assert server.http.get("/health/ready").json()["error"]["code"] == "shutting_down"
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as newcomer:
            for path, body in (("completions", LONG), ("completions", {**LONG, "prompt": "x" * 5_000_000})):
                answer = newcomer.post(f"/v1/{path}", json=body)
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "shutting_down"
                assert answer.headers["connection"] == "close"
                assert answer.headers["retry-after"]
            assert newcomer.get("/health/live").status_code == 200
            assert newcomer.get("/metrics").status_code == 200
        assert texts([answer.result(PATIENCE) for answer in asked])[:2] == alone
        assert server.process.wait(PATIENCE) == 0
        assert not engine.is_running()
        assert untimed(server.process.stderr.read()).splitlines()[1:] == [
            f"Stopping; 8 requests may go on for up to {PATIENCE:g} s, or until a second Ctrl-C"
        ]


def test_what_takes_too_long_is_aborted(model: Path, clients: ThreadPoolExecutor) -> None:
    with dawdling(model, "--shutdown-timeout", "0.1") as server:
        answer = clients.submit(server.http.post, "/v1/completions", json=LONG)
        wait_for(lambda: server.requests("running") == 1)
        server.process.send_signal(signal.SIGTERM)
        assert answer.result().json()["choices"][0]["finish_reason"] == "abort"
        assert server.process.wait(PATIENCE) == 0
        *_, begun, aborted = untimed(server.process.stderr.read()).splitlines()
        assert begun.startswith("Stopping; 1 request may go on for up to 0.1 s, or ")
        assert aborted == "0.1 s are over (--shutdown-timeout); 1 request aborted"


def test_a_second_signal_aborts_at_once(model: Path, clients: ThreadPoolExecutor) -> None:
    with dawdling(model, "--shutdown-timeout", "1000") as server:
        whole = clients.submit(server.http.post, "/v1/completions", json={**LONG, "prompt": ["a", "b"]})
        streamed = clients.submit(stream, server, 1, 900)
        wait_for(lambda: server.requests("running") == 3)
        engine = psutil.Process(server.process.pid).children()[0]
        server.process.send_signal(signal.SIGTERM)
        server.said()
        assert server.said().startswith("Stopping; 2 requests may go on for up to 1000 s")
        server.process.send_signal(signal.SIGTERM)
        assert {choice["finish_reason"] for choice in whole.result(PATIENCE).json()["choices"]} == {"abort"}
        *_, last, done = streamed.result(PATIENCE)
        assert (json.loads(last)["choices"][0]["finish_reason"], done) == ("abort", "[DONE]")
        assert server.process.wait(PATIENCE) == 0
        assert server.said() == "A second signal came; 2 requests aborted\n"
        assert not engine.is_running()


ECHO = {"prompt": "hello there", "echo": True, "logprobs": 1, "max_tokens": 1}


def test_what_is_aborted_before_its_prompt_was_computed_says_so(model: Path, clients: ThreadPoolExecutor) -> None:
    """Nothing is known of the tokens: their log probabilities are null."""
    with dawdling(model, "--max-num-seqs", "1") as server:
        clients.submit(server.http.post, "/v1/completions", json=LONG)
        wait_for(lambda: server.requests("running") == 1)
        bodies = [ECHO, {**ECHO, "stream": True}, {**ECHO, "max_tokens": 0}, {**ECHO, "prompt_logprobs": 1}]
        asked = [clients.submit(server.http.post, "/v1/completions", json=body) for body in bodies]
        wait_for(lambda: server.requests("waiting") == 4)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.http.get("/health").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        whole, streamed, empty, reported = (answer.result(PATIENCE) for answer in asked)
        first, done = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
        assert done == "[DONE]"
        answers = [whole.json(), json.loads(first), empty.json(), reported.json()]
        for (choice,) in (answer["choices"] for answer in answers):
            assert (choice["text"], choice["finish_reason"]) == ("hello there", "abort")
            told = choice["logprobs"]
            assert len(told["tokens"]) == len(told["text_offset"]) > 1
            assert told["token_logprobs"] == told["top_logprobs"] == [None] * len(told["tokens"])
        (choice,) = answers[-1]["choices"]
        assert choice["prompt_logprobs"] == choice["logprobs"]["token_logprobs"]
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.process.stderr.read()


def test_a_stuck_engine_does_not_keep_the_server(model: Path, clients: ThreadPoolExecutor) -> None:
    """Nobody answers to the abort: requests fail after a moment, and nothing is left behind."""
    with dawdling(model) as server:
        asked = clients.submit(server.http.post, "/v1/completions", json=LONG)
        wait_for(lambda: server.requests("running") == 1)
        engine = psutil.Process(server.process.pid).children()[0]
        engine.suspend()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.http.get("/health").status_code == 503)
        server.process.send_signal(signal.SIGINT)
        assert asked.result(PATIENCE).json()["error"]["code"] == "engine_unavailable"
        assert server.process.wait(PATIENCE) == 0
        assert not engine.is_running()
        *_, said = untimed(server.process.stderr.read()).splitlines()
        assert said == "Error: the engine did not answer to the abort within 5 s and is killed"


def test_a_third_signal_ends_server_and_engine_on_the_spot(model: Path, clients: ThreadPoolExecutor) -> None:
    with dawdling(model, ends_with=-signal.SIGTERM) as server:
        asked = clients.submit(server.http.post, "/v1/completions", json=LONG)
        wait_for(lambda: server.requests("running") == 1)
        engine = psutil.Process(server.process.pid).children()[0]
        engine.suspend()  # so that the second does not end it already
        server.said()
        for word in ("Stopping; ", "A second signal came; "):
            server.process.send_signal(signal.SIGTERM)
            assert server.said().startswith(word)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.TransportError):
            asked.result(PATIENCE)
        assert psutil.wait_procs([engine], timeout=PATIENCE)[0]


def test_while_another_engine_is_started_it_leaves_at_once(model: Path) -> None:
    with dawdling(model) as server:
        (engine,) = psutil.Process(server.process.pid).children()
        engine.kill()
        wait_for(lambda: server.http.get("/health").status_code == 503)
        wait_for(lambda: (found := psutil.Process(server.process.pid).children()) and found[0].pid != engine.pid)
        (another,) = psutil.Process(server.process.pid).children()
        another.suspend()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert not another.is_running()


def test_while_the_first_engine_is_started_it_leaves_at_once(model: Path) -> None:
    with infergc("serve", model, "--port", "0", "--executor", slow_sim.SLOW_START) as process:
        process.stderr.readline()
        wait_for(lambda: psutil.Process(process.pid).children())
        (engine,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert (process.returncode, engine.is_running()) == (0, False)


def test_bodies_that_never_come_do_not_keep_it(model: Path) -> None:
    with dawdling(model, "--shutdown-timeout", "0.1") as server:
        with half_a_request(server, b"/tokenize") as asking, half_a_request(server, b"/v1/completions") as silent:
            wait_for(lambda: server.metrics()["infergc_queue_reading_requests"] == 1)
            server.process.send_signal(signal.SIGTERM)
            assert silent.recv(1 << 16).startswith(b"HTTP/1.1 503")
            assert asking.recv(1 << 16).startswith(b"HTTP/1.1 503")
        assert server.process.wait(PATIENCE) == 0


def test_a_question_that_is_not_answered_does_not_keep_it(model: Path, clients: ThreadPoolExecutor) -> None:
    with dawdling(model) as server:
        (engine,) = psutil.Process(server.process.pid).children()
        engine.suspend()
        asked = clients.submit(server.http.delete, "/v1/sessions/talk")
        with httpx.Client(base_url=server.url, timeout=0.2) as hasty, pytest.raises(httpx.ReadTimeout):
            hasty.delete("/v1/sessions/talk")
        assert not asked.done()
        server.process.send_signal(signal.SIGTERM)
        answer = asked.result(PATIENCE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_stuck")
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.process.stderr.read()


def half_a_request(server: Server, path: bytes) -> socket.socket:
    """A connection on which a body began."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    connection.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                       b"Content-Length: 100\r\n\r\n{")  # fmt: skip
    return connection
