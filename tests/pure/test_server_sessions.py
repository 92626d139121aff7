"""Sessions over HTTP: a real server process, the simulated executor."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from infergc.client import EngineClient
from infergc.client.grammars import GrammarProcess
from infergc.config import engine_config
from infergc.params import SamplingParams
from infergc.server.answers.generation import Generation
from infergc.server.entrance.line import Line
from infergc.server.metrics import Latencies
from infergc.server.public_texts import PublicTexts
from infergc.server.routes.sessions import SessionClock
from infergc.server.service import Service
from infergc.server.settings import ServerSettings
from infergc.server.tools.turn import ToolSupport
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer
from samples import served_model, slow_sim
from samples.servers import ROOT, Server, serving, wait_for

PROMPT = "the quick brown fox jumps over the lazy dog " * 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model, "--executor", slow_sim.NAME, "--served-model-name", "tiny") as running:
        yield running


def complete(server: Server, **fields: Any) -> dict[str, Any]:
    body = {"prompt": PROMPT, "max_tokens": 8, "seed": 1, "ignore_eos": True, **fields}
    answer = server.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(server: Server, live: int) -> None:
    wait_for(lambda: server.pages("live") == live, f"never were {live} pages live")


def test_a_session_keeps_its_pages_until_it_is_deleted(server: Server) -> None:
    complete(server, session_id="chat/1")
    held = server.pages("live")
    assert held >= len(PROMPT) // 4 // 16
    deleted = server.http.delete("/v1/sessions/chat/1")
    assert deleted.json() == {"id": "chat/1", "object": "session", "deleted": True}
    until(server, 0)
    again = server.http.delete("/v1/sessions/chat/1")
    assert again.status_code == 404
    assert again.json()["error"] == {
        "message": 'session_id: "chat/1" is not open', "type": "invalid_request_error", "param": "session_id",
        "code": "session_not_found",
    }  # fmt: skip


def test_tenants_close_their_own_sessions_only(server: Server) -> None:
    complete(server, session_id="s", cache_salt="one")
    assert server.http.delete("/v1/sessions/s").status_code == 404
    assert server.http.delete("/v1/sessions/s", params={"cache_salt": "two"}).status_code == 404
    assert server.http.delete("/v1/sessions/s", params={"cache_salt": "one"}).status_code == 200
    until(server, 0)


def test_a_session_may_be_deleted_while_its_request_runs(model: Path) -> None:
    body = {"prompt": PROMPT, "max_tokens": 80, "ignore_eos": True, "stream": True, "session_id": "busy",
            "stream_options": {"include_usage": True}}  # fmt: skip
    with serving(model, "--executor", slow_sim.DAWDLING) as server:
        with server.http.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert server.http.delete("/v1/sessions/busy").status_code == 200
            assert server.requests("running") == 1
            assert any('"completion_tokens":80' in line for line in lines), "what runs goes on"
        until(server, 0)


def finished(server: Server, reason: str) -> tuple[float, float]:
    """How many requests ended so: in the engine, and as their clients were told."""
    metrics = server.metrics()
    told = [name for name in metrics if name.startswith("vllm:request_success_total{") and f'"{reason}"' in name]
    return metrics[f'infergc_requests_finished_total{{reason="{reason}"}}'], sum(metrics[name] for name in told)


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_a_stop_string_ended_is_kept(server: Server, stream: bool) -> None:
    session = f"stops {stream}"
    whole = complete(server, max_tokens=200)["choices"][0]["text"]
    stop = whole[len(whole) // 2 :][:6]
    stops, aborts = finished(server, "stop"), finished(server, "abort")
    body = {"prompt": PROMPT, "max_tokens": 200, "seed": 1, "ignore_eos": True, "stop": stop, "session_id": session}
    answer = server.http.post("/v1/completions", json={**body, "stream": stream})
    assert '"finish_reason":"stop"' in answer.text
    assert finished(server, "stop") == tuple(count + 1 for count in stops)
    assert finished(server, "abort") == aborts
    held = server.pages("live")
    assert held > len(PROMPT) // 4 // 16, "the text is kept with its prompt"
    text = whole[: whole.index(stop)]
    usage = complete(server, prompt=PROMPT + text + " and then", session_id=session)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0
    assert server.http.delete(f"/v1/sessions/{session}").status_code == 200
    until(server, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_that_the_last_token_completes_ends_the_text(server: Server, stream: bool) -> None:
    shorter, whole = (complete(server, max_tokens=most)["choices"][0]["text"] for most in (39, 40))
    stop = whole[len(shorter) - 3 :]
    assert stop not in shorter
    body = {"prompt": PROMPT, "max_tokens": 40, "seed": 1, "ignore_eos": True, "stop": stop, "stream": stream}
    answer = server.http.post("/v1/completions", json=body)
    assert '"finish_reason":"stop"' in answer.text
    assert '"length"' not in answer.text


def test_the_next_turn_finds_what_a_beam_search_chose(server: Server) -> None:
    best = complete(server, session_id="search", use_beam_search=True, n=2, max_tokens=40)["choices"][0]["text"]
    held = server.pages("live")
    assert held > len(PROMPT) // 4 // 16
    usage = complete(server, session_id="search", prompt=PROMPT + best)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0
    assert server.http.delete("/v1/sessions/search").status_code == 200
    until(server, 0)


def test_an_idle_session_is_closed_by_the_clock(model: Path) -> None:
    flags = ("--executor", slow_sim.NAME, "--session-timeout", "0.5")
    with serving(model, *flags) as server:
        complete(server, session_id="forgotten")
        wait_for(lambda: server.metrics()['infergc_sessions_closed_total{reason="idle"}'] == 1)
        until(server, 0)
        assert server.http.delete("/v1/sessions/forgotten").status_code == 404


def test_a_session_is_used_until_its_client_leaves(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    now = [0.0]

    async def scenario() -> None:
        client = await EngineClient.start(engine_config(model=model, executor=slow_sim.NAME))
        clock = SessionClock(client, 10.0, 100, lambda: now[0])
        settings = ServerSettings(model_name="tiny")
        latencies = Latencies(CollectorRegistry(), "tiny")
        template, tokenizer = ChatTemplate.load(model), Tokenizer.load(model)
        tools, public = ToolSupport("auto", template, tokenizer), PublicTexts()
        line = Line(client, 1)
        grammars = GrammarProcess(0)
        service = Service(client, tokenizer, template, settings, latencies, clock, line, tools, public, grammars)
        try:
            clock.touch("", "left")
            params = SamplingParams(max_tokens=500, ignore_eos=True)
            request = client.request([5, 6], params, session="left")
            generation = Generation(service, [request], service.tokenizer, 0.0, service.line.enter())
            await generation.begin()
            now[0] = 9.0
            generation.close()
            now[0] = 11.0
            await clock.close_idle()
            assert await client.close_session("left") == "closed", "it was idle for two seconds only"
        finally:
            await client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", [7, ["a"], "", "x" * 1025])
def test_a_bad_session_id_is_refused_by_name(server: Server, wrong: Any) -> None:
    answer = server.http.post("/v1/completions", json={"prompt": "hello", "session_id": wrong})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "session_id"


def test_a_bad_time_out_is_refused(model: Path) -> None:
    from click.testing import CliRunner  # noqa: PLC0415

    from infergc.cli import main  # noqa: PLC0415

    result = CliRunner().invoke(main, ["serve", str(model), "--session-timeout", "0"])
    assert result.exit_code == 2
    assert "--session-timeout" in result.output
