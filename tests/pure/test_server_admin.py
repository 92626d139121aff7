"""Looking inside a running server, and tuning it: a real process, the simulated executor, the real commands."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from infergc.cli import main
from infergc.client import EngineSupervisor, RestartBudget
from infergc.config import EngineConfig, engine_config
from infergc.params import SamplingParams
from infergc.server.metrics import EngineFigures
from infergc.server.routes.admin import HeapSettings, admin_router
from infergc.server.routes.sessions import SessionClock
from samples import served_model, slow_sim
from samples.inspection import ADMIN_KEY as KEY
from samples.inspection import HEADERS, check_same, check_under_load, in_state
from samples.servers import PATIENCE, ROOT, Server, environment, infergc_result, serving

FLAGS = ("--executor", slow_sim.NAME, "--served-model-name", "tiny", "--gc-young-steps", "8", "--gc-minor-pages", "4")
LONG = "the quick brown fox jumps over the lazy dog " * 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model, *FLAGS, INFERGC_ADMIN_KEY=KEY) as running:
        yield running


def complete(server: Server, prompt: str, **fields: Any) -> httpx.Response:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 40, "ignore_eos": True, **fields}
    answer = server.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def result(*arguments: str | Path, **named: str) -> tuple[int, str, str]:
    """As ``infergc_result``, in this process: others start the command as a user does, which takes two seconds."""
    found = CliRunner(env=named).invoke(main, [str(argument) for argument in arguments])
    return found.exit_code, found.stdout, found.stderr


def change(server: Server, **settings: Any) -> httpx.Response:
    return server.http.patch("/v1/kv/heap/settings", headers=HEADERS, json=settings)


def test_sums_are_those_of_the_metrics_idle_and_under_load(server: Server) -> None:
    check_under_load(server, lambda number: complete(server, LONG + str(number % 5), max_tokens=200), at_once=8)
    complete(server, LONG, session_id="chat")
    metrics, found = check_same(server)
    assert in_state(metrics, "live") > 0, "the session keeps its turn"
    assert found["in_flight"] == []
    pinned = [one for one in found["objects"] if one["pinned"]]
    assert [(one["kind"], one["session"]) for one in pinned] == [("parked", "chat")]
    assert sum(pinned[0]["groups"]["full"]["charged"].values()) == in_state(metrics, "live")
    assert metrics["infergc_sessions"] == 1
    assert server.http.delete("/v1/sessions/chat").status_code == 200
    assert server.metrics()['infergc_sessions_closed_total{reason="asked"}'] == 1


def test_the_collector_is_in_the_metrics(server: Server) -> None:
    complete(server, LONG)
    metrics = server.metrics()
    assert metrics['infergc_kv_collections_total{kind="minor"}'] > 0
    assert metrics['infergc_kv_collection_seconds_total{kind="minor"}'] > 0
    assert metrics['infergc_kv_collector_units_total{kind="minor"}'] > 0
    counted = metrics['infergc_kv_collector_pause_seconds_bucket{le="+Inf"}']
    assert counted == metrics["infergc_kv_collector_pause_seconds_count"] > 0
    assert (
        0 < metrics["infergc_kv_collector_longest_pause_seconds"] <= metrics["infergc_kv_collector_pause_seconds_sum"]
    )
    for name in ("leaked_pages", "garbage_objects", "corrupt_counts", "cycles", "cycle_objects"):
        assert metrics[f"infergc_kv_{name}_total"] >= 0


def test_without_an_admin_key_there_is_nothing(model: Path) -> None:
    with serving(model, *FLAGS) as server:
        for method, path in (
            ("GET", "heap"),
            ("GET", "heap/settings"),
            ("PATCH", "heap/settings"),
            ("POST", "heap/verify"),
        ):
            answer = server.http.request(method, f"/v1/kv/{path}", headers=HEADERS)
            assert answer.status_code == 404
        assert not any("/v1/kv" in path for path in server.http.get("/").json())
        code, _, err = result("heap", "dump", "--url", server.url, "--admin-key", KEY)
        assert (code, err) == (1, f"Error: {server.url} shows nobody its heap: start it with --admin-key\n")


def test_where_only_clients_have_a_key_the_heap_is_shown_to_nobody(model: Path) -> None:
    with serving(model, *FLAGS, INFERGC_API_KEY="clients") as server:
        for key in ((), ("--admin-key", KEY), ("--admin-key", "clients")):
            code, _, err = result("heap", "dump", "--url", server.url, *key)
            assert (code, err) == (1, f"Error: {server.url} shows nobody its heap: start it with --admin-key\n")


def test_the_admins_key_and_the_clients_open_one_kind_of_door_each(model: Path) -> None:
    with serving(model, *FLAGS, INFERGC_API_KEY="clients", INFERGC_ADMIN_KEY=KEY) as server:
        for path, right, wrong in (("/v1/kv/heap", KEY, "clients"), ("/v1/models", "clients", KEY)):
            for key, status in ((right, 200), (wrong, 401), ("", 401), (f"{right}x", 401)):
                answer = server.http.get(path, headers={"authorization": f"Bearer {key}"} if key else {})
                assert answer.status_code == status
            kind = "admin" if right == KEY else "api"
            assert server.http.get(path).json()["error"]["code"] == f"invalid_{kind}_key"
        assert server.http.patch("/v1/kv/heap/settings", content=b"{").status_code == 401, "before the body is read"


@pytest.mark.parametrize("key", ["", "same"])
def test_an_admin_key_that_guards_nothing_is_refused(model: Path, key: str) -> None:
    code, _, err = infergc_result("serve", model, "--admin-key", key, "--api-key", "same")
    assert code == 2
    assert "--admin-key: must not be empty, nor the API key" in err


def test_settings_change_while_it_runs(server: Server) -> None:
    before = server.http.get("/v1/kv/heap/settings", headers=HEADERS).json()
    assert before.keys() == HeapSettings.model_fields.keys()
    changed = change(server, gc_step_us=50, gc_watermark=0.5, max_sessions=1, session_timeout=30.0)
    assert changed.status_code == 200
    expected = {**before, "gc_step_us": 50.0, "gc_watermark": 0.5, "max_sessions": 1, "session_timeout": 30.0}
    assert changed.json() == expected == server.http.get("/v1/kv/heap/settings", headers=HEADERS).json()
    for session in ("one", "two"):
        complete(server, LONG, session_id=session)
    assert server.metrics()["infergc_sessions"] == 1
    assert change(server, **before).json() == before


def test_a_target_makes_room(server: Server) -> None:
    complete(server, LONG)
    assert in_state(server.metrics(), "cached") > 0
    assert change(server, gc_target_free=1.0).status_code == 200
    complete(server, "x", max_tokens=40)
    metrics = server.metrics()
    assert metrics['infergc_kv_evicted_pages_total{reason="target"}'] > 0
    assert in_state(metrics, "cached") <= 4
    assert change(server, gc_target_free=0).status_code == 200


def test_a_session_timeout_takes_effect(model: Path) -> None:
    """With the old one nothing would happen for an hour and a half, and the clock looked every ten minutes."""
    with serving(model, *FLAGS, "--session-timeout", "6000", INFERGC_ADMIN_KEY=KEY) as server:
        before = server.http.get("/v1/kv/heap/settings", headers=HEADERS).json()
        assert before["session_timeout"] == 6000
        complete(server, LONG, session_id="forgotten")
        assert change(server, session_timeout=0.05).json()["error"]["param"] == "session_timeout"
        assert server.http.get("/v1/kv/heap/settings", headers=HEADERS).json() == before
        assert server.metrics()["infergc_sessions"] == 1
        assert change(server, session_timeout=0.1).json() == {**before, "session_timeout": 0.1}
        end = time.monotonic() + 60
        while server.metrics()["infergc_sessions"]:
            assert time.monotonic() < end, "the session is still open"
            time.sleep(0.02)
        assert server.metrics()['infergc_sessions_closed_total{reason="idle"}'] == 1


@pytest.mark.parametrize(
    ("settings", "field", "says"),
    [
        ({"gc_step_us": 0}, "gc_step_us", "0.0 is not allowed; it must be ≥ 1 and ≤ 1000000.0"),
        ({"gc_minor_pages": 0}, "gc_minor_pages", "0 is not allowed; it must be ≥ 1"),
        ({"gc_tenured_steps": 1 << 25}, "gc_tenured_steps", "33554432 is not allowed; it must be ≥ 1 and ≤ 16777216"),
        ({"gc_watermark": 1.5}, "gc_watermark", "≤ 1"),
        ({"gc_target_free": -1}, "gc_target_free", "≥ 0"),
        ({"max_sessions": 1.5}, "max_sessions", "takes an integer"),
        ({"session_timeout": 0}, "session_timeout", "0.0 is not allowed; it must be ≥ 0.1 and ≤ 1000000000.0"),
        ({"session_timeout": 1e300}, "session_timeout", "1e+300 is not allowed; it must be ≥ 0.1 and ≤ 1000000000.0"),
        ({"max_sessions": "9"}, "max_sessions", "takes an integer"),
        ({"gc_step": 5}, "gc_step", "not a known field"),
        ({"max_num_seqs": 5}, "max_num_seqs", "not a known field"),
        ({"gc_step_us": 77, "gc_idle_us": 0}, "gc_idle_us", "must be ≥ 1"),
    ],
)
def test_bad_settings_are_named_and_change_nothing(
    server: Server, settings: dict[str, Any], field: str, says: str
) -> None:
    before = server.http.get("/v1/kv/heap/settings", headers=HEADERS).json()
    answer = change(server, **settings)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == field
    assert error["message"].startswith(f"{field}: ")
    assert says in error["message"]
    assert server.http.get("/v1/kv/heap/settings", headers=HEADERS).json() == before


def test_every_setting_is_a_flag(server: Server) -> None:
    assert HeapSettings.model_fields.keys() - {"session_timeout"} <= EngineConfig.model_fields.keys()


def command(server: Server, *arguments: str | Path) -> tuple[int, str, str]:
    flags = environment(INFERGC_ADMIN_KEY=KEY, COLUMNS="120")
    return infergc_result("heap", *arguments, "--url", server.url, env=flags)


def test_the_commands_show_what_grew(server: Server, tmp_path: Path) -> None:
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    assert command(server, "dump", "--json", files[0])[0] == 0
    complete(server, LONG + "about foxes", session_id="foxes")
    code, out, err = command(server, "dump", "--json", files[1])
    assert (code, err) == (0, "")
    assert "Group full" in out
    assert " nodes in 1 namespace;" in out
    assert "foxes" in out
    assert "parked, pinned" in out
    code, out, err = infergc_result("heap", "diff", *files)
    assert (code, err) == (0, "")
    (grown,) = [line for line in out.splitlines() if "parked, pinned foxes" in line]
    held = next(one for one in json.loads(files[1].read_text())["objects"] if one["session"] == "foxes")
    assert f"+{sum(held['groups']['full']['charged'].values())} " in grown
    assert infergc_result("heap", "diff", files[1], files[1])[1] == "Nothing changed.\n"


def test_names_that_clients_chose_are_shown_as_they_are_and_harm_no_terminal(server: Server) -> None:
    for session in ("[red]", "\x1b[31m"):
        complete(server, LONG, session_id=session)
    code, out, _ = command(server, "dump")
    assert code == 0
    assert "[red] " in out
    assert "\x1b" not in out
    assert "\\u001b[31m" in out


def test_verify_finds_nothing_where_all_is_well(server: Server) -> None:
    assert command(server, "verify") == (0, "All counts are true, and all laws hold.\n", "")


def test_verify_says_what_it_freed(model: Path) -> None:
    """With the collector off, sessions deleted while their requests run stay behind as cycles."""
    flags = ("--executor", slow_sim.DAWDLING, "--gc", "off")
    with serving(model, *flags, INFERGC_ADMIN_KEY=KEY) as server:
        body = {"prompt": LONG, "max_tokens": 40, "ignore_eos": True, "stream": True, "session_id": "gone"}
        with server.http.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert server.http.delete("/v1/sessions/gone").status_code == 200
            assert list(lines)
        leaked = server.pages("live")
        assert leaked > 0
        freed = "Freed 2 objects in cycles that nothing outside held.\n"
        well = "All counts are true, and all laws hold.\n"
        assert command(server, "verify") == (0, freed + well, "")
        assert server.pages("live") == 0
        assert command(server, "verify") == (0, well, "")
        answer = server.http.post("/v1/kv/heap/verify", headers=HEADERS)
        assert answer.json() == {"found": "", "freed_objects": 0}


def test_errors_of_the_commands_are_a_line(server: Server, tmp_path: Path) -> None:
    for key, wrong in ((None, "is missing"), ("wrong", "is not the server's"), ("ключ", "is not the server's")):
        named = {"INFERGC_ADMIN_KEY": key} if key else {}
        code, _, err = result("heap", "verify", "--url", server.url, **named)
        expected = (
            f"Error: --admin-key: {wrong}; give the key that the server was started with, or set INFERGC_ADMIN_KEY"
        )
        assert (code, err) == (1, f"{expected}\n")
    code, _, err = result("heap", "dump", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert err.startswith("Error: --url: http://127.0.0.1:9 does not answer: ")
    for url in ("here", "http://", "http://h:x", "http://[", "ftp://h"):
        code, _, err = result("heap", "dump", "--url", url)
        assert code == 2
        assert f"'{url}' is no address such as http://127.0.0.1:8000" in err
    other = tmp_path / "other.json"
    other.write_text("[]")
    code, _, err = result("heap", "diff", other, other)
    assert code == 2
    assert f"{other}: is no heap dump; infergc heap dump --json" in err


def test_a_busy_engine_is_shown_as_it_last_was(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer in time: the figures stay those of one moment, whatever the engine said since."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))

    async def scenario() -> None:
        config = engine_config(model=model, executor=slow_sim.NAME)
        client = await EngineSupervisor.start(config, RestartBudget(0), PATIENCE, kills_stuck=False, say=print)
        try:
            figures = EngineFigures(client)
            await figures.refresh()
            before = figures.latest
            assert before["counters"]["steps"] == 0
            async for _ in client.submit(client.request([5, 6], SamplingParams(max_tokens=20))):
                pass
            figures._patience = 0
            await figures.refresh()
            assert client.stats["counters"]["steps"] > 0
            assert {part: figures.latest[part] for part in ("kv", "pages", "counters")} == {
                part: before[part] for part in ("kv", "pages", "counters")
            }
            figures._patience = PATIENCE
            await figures.refresh()
            assert figures.latest["counters"]["steps"] > 0
        finally:
            await client.close()
        await figures.refresh()
        assert not figures.latest, "an engine that is gone runs no requests and holds no pages"

    asyncio.run(scenario())


def test_a_slow_look_at_the_settings_undoes_no_change() -> None:
    """A GET that began before a PATCH is answered after it."""

    class Client:
        config = EngineConfig(model=Path())

        def __init__(self) -> None:
            self.slow: list[asyncio.Event] = [asyncio.Event()]

        async def ask(self, _what: str, **_about: Any) -> dict[str, Any]:
            if self.slow:
                await self.slow.pop().wait()
            return {"max_sessions": 7}

    async def both() -> tuple[dict[str, Any], dict[str, Any], float]:
        client = Client()
        clock, began = SessionClock(client, 600.0, 7), client.slow[0]
        routes = {route.endpoint.__name__: route.endpoint for route in admin_router(client, clock).routes}
        look = asyncio.create_task(routes["settings"]())
        await asyncio.sleep(0)
        changed = await routes["change"](HeapSettings(session_timeout=5.0))
        began.set()
        return changed, await look, clock.timeout

    changed, looked, timeout = asyncio.run(both())
    assert changed["session_timeout"] == looked["session_timeout"] == timeout == 5.0
