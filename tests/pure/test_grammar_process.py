"""Grammars looked at in a process of their own: what takes too much is refused, and costs others nothing."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from infergc.client.grammars import GrammarProcess
from infergc.params import ParameterError, StructuredOutputs
from samples import served_model, slow_sim
from samples.servers import PATIENCE, Server, serving, wait_for

SMALL = StructuredOutputs(regex="[xyz]+")
FIELDS = {f"field_{number}": {"type": ("string", "integer", "boolean")[number % 3]} for number in range(1000)}
GOOD = {"type": "object", "properties": FIELDS, "required": list(FIELDS)[::2]}


def patterns(first: int = 97) -> dict[str, Any]:
    """A schema of 1 KB that llguidance would work on for hours."""
    return {"allOf": [{"type": "string", "pattern": f"(.*{chr(first + number)}.*)"} for number in range(24)]}


def multiples(first: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": {"type": "integer", "multipleOf": first + i} for i in range(10)}}


def with_process(use: Callable[[GrammarProcess], Awaitable[None]]) -> None:
    async def scenario() -> None:
        grammars = GrammarProcess(400)
        try:
            await use(grammars)
        finally:
            await grammars.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("schema", [patterns(), multiples(50021), {"type": "integer", "multipleOf": 1000003}])
def test_what_takes_too_long_is_refused_and_others_go_on(schema: dict[str, Any]) -> None:
    async def use(grammars: GrammarProcess) -> None:
        costly = StructuredOutputs(json=schema)
        refused, *_ = await asyncio.gather(
            grammars.check(costly), grammars.check(SMALL), grammars.check(StructuredOutputs(json=GOOD)),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(refused, ParameterError)
        assert refused.field == "structured_outputs.json"
        assert "more than 0.25 s of processor time; simplify it" in refused.message
        await grammars.check(SMALL)
        await grammars.check(StructuredOutputs(json=GOOD))
        process = grammars._process
        with pytest.raises(ParameterError, match="too long"):
            await grammars.check(costly)
        assert grammars._process is process, "verdicts are remembered"

    with_process(use)


def test_it_says_what_is_wrong_and_looks_at_each_grammar_once() -> None:
    async def use(grammars: GrammarProcess) -> None:
        wrong = StructuredOutputs(regex="a(")
        for _ in range(2):
            with pytest.raises(ParameterError, match="unclosed group") as caught:
                await grammars.check(wrong)
            assert caught.value.field == "structured_outputs.regex"
        await grammars.check(SMALL)
        os.kill(grammars._process.pid, signal.SIGSTOP)
        await grammars.check(SMALL)
        for number in range(100):
            grammars._remember(StructuredOutputs(choice=(str(number),)), "")
        assert len(grammars._verdicts) == 64

    with_process(use)


def test_who_leaves_leaves_the_line_and_a_dead_process_is_replaced() -> None:
    async def use(grammars: GrammarProcess) -> None:
        await grammars.check(SMALL)
        os.kill(grammars._process.pid, signal.SIGSTOP)
        stuck, waiting = (asyncio.ensure_future(grammars.check(StructuredOutputs(regex=one))) for one in "ab")
        await asyncio.sleep(0)
        for task in (waiting, stuck):
            task.cancel()
            await asyncio.wait((task,))
        await grammars.check(StructuredOutputs(regex="c"))
        os.kill(grammars._process.pid, signal.SIGKILL)
        await grammars.check(StructuredOutputs(regex="d"))

    with_process(use)


# ---- through a server


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model, "--executor", slow_sim.NAME) as running:
        yield running


def body(**format_: Any) -> dict[str, Any]:
    return {"prompt": "hello", "max_tokens": 2, **format_}


def schema_body(schema: dict[str, Any]) -> dict[str, Any]:
    return body(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


def test_a_costly_schema_is_refused_while_others_are_served(server: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        costly = pool.submit(server.http.post, "/v1/completions", json=schema_body(patterns()))
        small = pool.submit(server.http.post, "/v1/completions", json=body(structured_outputs={"regex": "[xyz]+"}))
        assert small.result().status_code == 200
        refused = costly.result()
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == "response_format.json_schema.schema"
    assert "simplify it" in error["message"]
    assert server.http.post("/v1/completions", json=schema_body(GOOD)).status_code == 200


def test_it_stops_while_grammars_are_looked_at(model: Path) -> None:
    with (
        serving(model, "--executor", slow_sim.NAME, "--shutdown-timeout", "0") as server,
        ThreadPoolExecutor(1) as pool,
    ):
        child = grammar_child(server)
        os.kill(child, signal.SIGSTOP)  # it takes forever
        asked = pool.submit(httpx.post, f"{server.url}/v1/completions", json=schema_body(patterns()), timeout=PATIENCE)
        wait_for(lambda: server.metrics()["infergc_queue_reading_requests"] == 1)
        assert server.stop()[0] == 0
        assert asked.result().status_code == 503
        assert not Path(f"/proc/{child}").exists()


def test_the_process_goes_with_its_server(model: Path) -> None:
    with serving(model, "--executor", slow_sim.NAME, ends_with=-signal.SIGKILL) as server:
        child = grammar_child(server)
        server.process.kill()
        wait_for(lambda: not command(child))


def grammar_child(server: Server) -> int:
    """The process that looks at grammars, once there is one."""
    assert server.http.post("/v1/completions", json=body(structured_outputs={"regex": "[xyz]+"})).status_code == 200
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    (child,) = [pid for pid in children if b"grammar_process" in command(pid)]
    return child


def command(pid: int) -> bytes:
    """Nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
