"""The engine's process is killed, or stands still: what clients get, what probes say, and that it is mended."""

import json
import re
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from samples import served_model, slow_sim
from samples.inspection import ADMIN_KEY, HEADERS
from samples.servers import PATIENCE, Server, serving, untimed, wait_for

LONG = {"prompt": "hello", "max_tokens": 900, "ignore_eos": True, "seed": 1}
SHORT = {**LONG, "max_tokens": 30}
STUCK_SECONDS = 1.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    flags = ("--executor", slow_sim.DAWDLING, "--stuck-timeout", str(STUCK_SECONDS), "--max-engine-restarts", "100",
             "--max-num-seqs", "4", "--max-num-queued-reqs", "4")  # fmt: skip
    with serving(model, *flags, INFERGC_ADMIN_KEY=ADMIN_KEY) as running:
        running.said()  # that it loads
        yield running


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def engine_of(server: Server) -> psutil.Process:
    (engine,) = psutil.Process(server.process.pid).children()
    return engine


def is_another(found: psutil.Process, engine: psutil.Process) -> bool:
    """Whether it has become an engine: until then the server waits for it as for a part of itself."""
    return found.pid != engine.pid and "infergc.engine.process" in found.cmdline()


def complete(server: Server, **fields: object) -> httpx.Response:
    return server.http.post("/v1/completions", json={**SHORT, **fields})


def loaded(server: Server, clients: ThreadPoolExecutor) -> list[Future[httpx.Response]]:
    """Long requests that run, half of them streams."""
    bodies = [{**LONG, "prompt": f"client {number}", "stream": number % 2 == 0} for number in range(4)]
    asked = [clients.submit(server.http.post, "/v1/completions", json=body) for body in bodies]
    wait_for(lambda: server.requests("running") == 4)
    return asked


def error_of(answer: httpx.Response) -> dict[str, str]:
    """The error that an answer is, or that a stream ends with."""
    if answer.headers["content-type"] == "application/json":
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        return answer.json()["error"]
    *_, error, done = [line for line in answer.text.splitlines() if line]
    assert (answer.status_code, done) == (200, "data: [DONE]")
    return json.loads(error[6:])["error"]


def is_ready(server: Server) -> bool:
    assert server.http.get("/health/live").status_code == 200, "the server itself is well"
    statuses = {server.http.get(path).status_code for path in ("/health", "/health/ready")}
    return statuses == {200}


def test_killed_it_fails_its_requests_at_once_and_another_serves(server: Server, clients: ThreadPoolExecutor) -> None:
    text, before = complete(server).json()["choices"][0]["text"], server.metrics()["infergc_engine_restarts_total"]
    asked, engine = loaded(server, clients), engine_of(server)
    engine.send_signal(signal.SIGKILL)
    for answer in asked:
        error = error_of(answer.result(PATIENCE))
        assert error["code"] == "engine_unavailable"
        assert "killed by SIGKILL; the system may have been out of memory" in error["message"]
        assert re.search(r"; try again in \d+ s$", error["message"])
    assert server.said() == (
        "Error: the engine died (its socket closed; killed by SIGKILL; the system may have been out of memory); "
        "it is started again\n"
    )
    wait_for(lambda: is_ready(server))
    assert server.said().startswith("The engine runs again, after ")
    assert not engine.is_running()
    assert complete(server).json()["choices"][0]["text"] == text
    metrics = server.metrics()
    assert metrics["infergc_engine_restarts_total"] == before + 1
    assert metrics["infergc_engine_up"] == 1
    assert metrics['infergc_requests_finished_total{reason="length"}'] == 1, "counted by the new engine"
    server.wait_until_idle()


def test_meanwhile_requests_and_readiness_get_503_and_metrics_show_no_engine(server: Server) -> None:
    """The engine that is to follow is stopped while it starts, so that there is a meanwhile."""
    engine = engine_of(server)
    engine.send_signal(signal.SIGKILL)
    server.said()
    wait_for(lambda: (found := psutil.Process(server.process.pid).children()) and is_another(found[0], engine))
    with halted(engine_of(server)):
        for answer in (complete(server), server.http.get("/health")):
            assert error_of(answer)["code"] == "engine_restarting"
        assert complete(server, prompt="x" * 100_000).status_code == 503, "of a request nothing is read but the head"
        metrics = server.metrics()
        assert metrics["infergc_engine_up"] == 0
        assert 'infergc_requests{state="running"}' not in metrics
        assert not [name for name in metrics if name.startswith("vllm:num_requests_")]
        assert server.http.get("/health/live").status_code == 200
        assert server.http.get("/v1/models").status_code == 200
    wait_for(lambda: is_ready(server))
    server.said()
    assert complete(server).status_code == 200


def test_what_was_tuned_outlives_it_and_sessions_do_not(server: Server) -> None:
    server.http.patch("/v1/kv/heap/settings", json={"max_sessions": 17}, headers=HEADERS).raise_for_status()
    complete(server, session_id="talk")
    assert server.metrics()["infergc_sessions"] == 1
    engine_of(server).send_signal(signal.SIGKILL)
    server.said()
    wait_for(lambda: is_ready(server))
    server.said()
    assert server.http.get("/v1/kv/heap/settings", headers=HEADERS).json()["max_sessions"] == 17
    assert server.metrics()["infergc_sessions"] == 0
    assert server.http.delete("/v1/sessions/talk").status_code == 404
    assert server.http.post("/v1/kv/heap/verify", headers=HEADERS).json()["found"] == ""


@contextmanager
def halted(process: psutil.Process) -> Iterator[None]:
    """A process that stands still."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def test_a_stuck_step_fails_readiness_until_it_goes_on(server: Server, clients: ThreadPoolExecutor) -> None:
    asked = [clients.submit(complete, server, prompt=f"client {number}") for number in range(4)]
    wait_for(lambda: server.requests("running") == 4)
    with halted(engine_of(server)):
        wait_for(lambda: not is_ready(server))
        assert error_of(server.http.get("/health"))["code"] == "engine_stuck"
        said = server.said()
        assert said.startswith("Error: the engine has not answered for ")
        assert said.endswith(" s, with 4 open requests (--stuck-timeout); /health gets 503\n")
        for answer in (server.http.delete("/v1/sessions/talk"), server.http.get("/v1/kv/heap", headers=HEADERS)):
            assert error_of(answer)["code"] == "engine_stuck"
        assert not any(answer.done() for answer in asked), "they wait"
    assert all(answer.result(PATIENCE).status_code == 200 for answer in asked)
    wait_for(lambda: is_ready(server))
    assert server.said() == "The engine moves again\n"


def test_an_idle_engine_that_stands_still_is_not_said_to_have_work(server: Server) -> None:
    wait_for(lambda: is_ready(server))
    server.wait_until_idle()
    assert server.metrics()["infergc_engine_still_seconds"] == 0
    with halted(engine_of(server)):
        wait_for(lambda: not is_ready(server))
        error = error_of(server.http.get("/health"))
        assert error["message"].startswith("the engine has not answered for ")
        assert "with 0 open requests" in error["message"]
        assert server.metrics()["infergc_engine_still_seconds"] > STUCK_SECONDS
        assert server.said().endswith("; /health gets 503\n")
    wait_for(lambda: is_ready(server))
    assert server.said() == "The engine moves again\n"


def test_ten_times_what_it_can_serve_changes_no_probe(server: Server, clients: ThreadPoolExecutor) -> None:
    """For longer than the time after which an engine is stuck."""
    asked = [clients.submit(complete, server, prompt=f"client {at}", max_tokens=100) for at in range(60)]
    wait_for(lambda: any(answer.done() for answer in asked))
    while not all(answer.done() for answer in asked):
        assert is_ready(server)
    statuses = [answer.result().status_code for answer in asked]
    assert set(statuses) == {200, 429}
    assert statuses.count(429) > statuses.count(200)


def test_a_stuck_engine_is_killed_where_that_was_asked_for(model: Path, clients: ThreadPoolExecutor) -> None:
    flags = ("--executor", slow_sim.DAWDLING, "--stuck-timeout", str(STUCK_SECONDS), "--restart-stuck-engine")
    with serving(model, *flags) as server:
        asked, engine = loaded(server, clients), engine_of(server)
        engine.suspend()
        errors = [error_of(answer.result(PATIENCE)) for answer in asked]
        assert {error["code"] for error in errors} == {"engine_unavailable"}
        assert all(error["message"].startswith("the engine was stuck and was killed; try again") for error in errors)
        assert server.said() == "Loading tiny …\n"
        assert server.said().endswith("; it is killed\n")
        assert server.said() == "Error: the engine was stuck and was killed; it is started again\n"
        wait_for(lambda: is_ready(server))
        assert complete(server).status_code == 200
        assert not engine.is_running()


@pytest.mark.parametrize("most", [0, 1])
def test_after_so_many_deaths_the_server_ends(model: Path, most: int) -> None:
    flags = ("--executor", slow_sim.NAME, "--max-engine-restarts", str(most))
    with serving(model, *flags, ends_with=1) as server:
        for _ in range(most + 1):
            wait_for(lambda: is_ready(server))
            with pytest.raises(httpx.HTTPStatusError, match="503"):
                complete(server, prompt=[slow_sim.DIES]).raise_for_status()
        assert server.process.wait(PATIENCE) == 1
        *_, said = untimed(server.process.stderr.read()).splitlines()
        assert said.startswith("Error: the engine died (its socket closed; exit code 3); the server ends (--max-engine")
