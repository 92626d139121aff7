"""The request log of a real server: one line a request, however that ends."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from infergc.server.entrance.tenants import Keyring
from samples import served_model, slow_sim
from samples.servers import Server, infergc, post_and_leave, serving, wait_for

KEY, SECRET = "a-key-of-a-tenant", "something that nobody else may read"
FLAGS = ("--executor", slow_sim.DAWDLING, "--max-num-seqs", "2", "--max-num-queued-reqs", "2", "--api-key", KEY)
SHORT = {"prompt": f"hello {SECRET}", "max_tokens": 3, "ignore_eos": True, "seed": 1}
LONG = {**SHORT, "max_tokens": 900, "stream": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "requests.jsonl"


@pytest.fixture(scope="module")
def server(model: Path, log: Path) -> Iterator[Server]:
    with serving(model, *FLAGS, "--request-log", str(log)) as running:
        running.http.headers["authorization"] = f"Bearer {KEY}"
        yield running


Lines = Callable[[int], list[dict[str, Any]]]


@pytest.fixture
def lines(server: Server, log: Path) -> Iterator[Lines]:
    """So many lines of this test, as they stand in the file; in the end there must be no other."""
    server.wait_until_idle()
    begin, taken = len(log.read_text().splitlines()), 0

    def new() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()[begin:]]

    def wait(count: int) -> list[dict[str, Any]]:
        nonlocal taken
        wait_for(lambda: len(new()) >= count, f"{count} lines were to come")
        taken = count
        return new()

    yield wait
    server.wait_until_idle()
    assert len(new()) == taken
    assert KEY not in log.read_text()
    assert SECRET not in log.read_text()


def test_a_whole_answer(server: Server, lines: Lines) -> None:
    asked = {**SHORT, "n": 2, "prompt": ["a b c", "d"]}
    answer = server.http.post("/v1/completions", json=asked, headers={"x-request-id": "mine"}).json()
    (line,) = lines(1)
    assert line["request_id"] == "mine"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/completions", 200)
    assert (line["model"], line["stream"]) == ("tiny", False)
    assert line["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    assert line["completion_tokens"] == answer["usage"]["completion_tokens"] == 12
    assert line["cached_tokens"] == 0
    assert line["finish_reasons"] == ["length"] * 4
    assert line["preemptions"] == 0
    assert 0 < line["itl_mean_ms"] <= line["itl_max_ms"]
    assert 0 <= line["queue_ms"] < line["ttft_ms"] < line["e2e_ms"]
    assert line["tenant"] == Keyring([KEY]).tenant(KEY.encode()).label
    assert not line.keys() & {"error", "param", "client_left"}
    assert line["time"].endswith("Z")


def test_a_stream_and_what_it_found_in_the_cache(server: Server, lines: Lines) -> None:
    asked = {"messages": [{"role": "user", "content": "once more " * 20}], "max_tokens": 2, "stream": True}
    for _ in range(2):
        answer = server.http.post("/v1/chat/completions", json=asked)
        assert answer.text.endswith("data: [DONE]\n\n")
    first, second = lines(2)
    assert second["stream"] is True
    assert second["request_id"] == answer.headers["x-request-id"] != first["request_id"]
    assert first["cached_tokens"] == 0 < second["cached_tokens"] < second["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "told"),
    [
        ("/v1/completions", {**SHORT, "n": 0}, {}, (400, "invalid_value", "n")),
        ("/v1/completions", {**SHORT, "frobnicate": SECRET}, {}, (400, "unknown_parameter", "frobnicate")),
        ("/v1/completions", {**SHORT, "model": "other"}, {}, (404, "model_not_found", "model")),
        ("/v1/nothing", SHORT, {}, (404, "invalid_request_error", None)),
        ("/v1/completions", SHORT, {"authorization": "Bearer wrong"}, (401, "invalid_api_key", None)),
        ("/v1/completions", {**SHORT, "prompt": [slow_sim.FAILS]}, {}, (503, "request_failed", None)),
    ],
)
def test_refusals_and_failures(
    server: Server, lines: Lines, path: str, body: dict[str, Any], headers: dict[str, str], told: tuple[Any, ...]
) -> None:
    for stream in (False, True):
        server.http.post(path, json={**body, "stream": stream}, headers=headers)
    for line in lines(2):
        assert (line["status"], line["error"], line.get("param")) == told
        assert ("tenant" in line) == (line["status"] != 401)


def test_a_full_queue(server: Server, lines: Lines) -> None:
    with ExitStack() as streams:
        for at in range(4):
            streams.enter_context(leaving(server, LONG))
            wait_for(lambda: server.requests("running") + server.requests("waiting") == at + 1)  # noqa: B023
        assert server.http.post("/v1/completions", json=SHORT).status_code == 429
        (refused,) = lines(1)
        assert (refused["status"], refused["error"]) == (429, "queue_full")
    left = lines(5)[1:]
    assert all(line["client_left"] for line in left)
    waited = [line for line in left if "queue_ms" not in line]
    assert len(waited) == 2, "those that never started"
    assert {line["status"] for line in waited} == {499}


def test_a_stream_that_its_engine_dies_under(server: Server, lines: Lines) -> None:
    """The status line is long gone when the error comes."""
    with server.http.stream("POST", "/v1/completions", json=LONG) as answer:
        frames = answer.iter_lines()
        next(frames)
        (engine,) = psutil.Process(server.process.pid).children()
        engine.kill()
        assert "engine_unavailable" in "".join(frames)
    (line,) = lines(1)
    assert (line["status"], line["error"], line["stream"]) == (200, "engine_unavailable", True)
    assert line["finish_reasons"] == [None]
    assert "client_left" not in line
    wait_for(lambda: 'infergc_requests{state="running"}' in server.metrics(), "another engine was to run")


def leaving(server: Server, body: dict[str, Any]) -> AbstractContextManager[None]:
    return post_and_leave(server, "/v1/completions", body, key=KEY)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves(server: Server, lines: Lines, stream: bool) -> None:
    with leaving(server, {**LONG, "stream": stream}):
        wait_for(lambda: server.requests("running") == 1)
    (line,) = lines(1)
    assert line["client_left"] is True
    assert (line["status"], line["stream"]) in {(499, False), (200, True), (499, True)}
    assert line["finish_reasons"] == [None]
    assert line["completion_tokens"] < 900


def test_probes_are_told_only_where_they_fail(server: Server, lines: Lines) -> None:
    server.http.get("/health")
    server.http.get("/metrics")
    server.http.get("/metrics", headers={"authorization": ""})
    server.http.get("/v1/models")
    assert [(line["path"], line["status"]) for line in lines(2)] == [("/metrics", 401), ("/v1/models", 200)]


def test_a_file_that_was_rotated_is_left_alone(server: Server, lines: Lines, log: Path) -> None:
    server.http.get("/v1/models")
    before = len(lines(1))
    old = log.rename(log.with_suffix(".1"))
    server.http.get("/v1/models")
    wait_for(log.exists)
    wait_for(log.read_text)
    log.write_text(old.read_text() + log.read_text())  # as the fixture wants it
    assert len(lines(2)) == before + 1


def test_a_closed_pipe_disturbs_nobody(model: Path) -> None:
    """Whoever read stderr has gone."""
    with infergc("serve", model, "--port", "0", *FLAGS[:2], "--request-log", "-") as process:
        server = Server(process)
        server.http.post("/v1/completions", json=SHORT)
        line = next(line for line in process.stderr if line.startswith("{"))
        assert json.loads(line)["path"] == "/v1/completions"
        process.stderr.close()
        for _ in range(3):
            assert server.http.post("/v1/completions", json=SHORT).status_code == 200
        server.http.close()
        process.terminate()
        assert process.wait(60) == 0


def test_a_file_that_cannot_be_is_an_error_at_the_start(model: Path, tmp_path: Path) -> None:
    with infergc("serve", model, "--port", "0", *FLAGS[:2], "--request-log", tmp_path / "no" / "file") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--request-log: cannot write" in err
    assert "No such file or directory" in err
