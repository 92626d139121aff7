"""The supervisor where looking after the engine itself goes wrong, and what is shown of the engine that follows."""

import asyncio
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from infergc.client import EngineSupervisor, RestartBudget, supervisor
from infergc.client.patience import Patience
from infergc.client.restarts import start_limit
from infergc.config import engine_config
from samples import served_model, slow_sim
from samples.servers import PATIENCE, ROOT


class FaultyBudget(RestartBudget):
    """One with a fault."""

    def take(self) -> NoReturn:
        raise ZeroDivisionError("a fault")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


def killed(model: Path, budget: RestartBudget, *, halts_the_next: bool) -> tuple[bool, list[str]]:
    """Kill an engine; whether there is to be no other in the end, and what was said until then."""
    said: list[str] = []

    async def scenario() -> bool:
        config = engine_config(model=model, executor=slow_sim.NAME)
        engine = await EngineSupervisor.start(config, budget, PATIENCE, kills_stuck=False, say=said.append)
        try:
            first = engine_process()
            first.kill()
            while halts_the_next and engine_process() in {None, first}:
                await asyncio.sleep(0.01)
            if halts_the_next:
                engine_process().suspend()
            async with asyncio.timeout(PATIENCE):
                return await engine.over()
        finally:
            await engine.close()

    return asyncio.run(scenario()), said


def engine_process() -> psutil.Process | None:
    engines = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return engines[0] if engines else None


def test_an_engine_that_hangs_while_it_starts_again_counts_as_failed(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "start_limit", lambda _: 1.0)
    has_given_up, said = killed(model, RestartBudget(1), halts_the_next=True)
    assert has_given_up
    assert "could not be started again: it was not ready after 1 s, and was killed; the server ends" in said[-1]
    assert engine_process() is None


def test_a_start_may_take_some_minutes_and_more_where_the_first_did() -> None:
    assert [start_limit(first) for first in (0.5, 30.0, 120.0)] == [300.0, 300.0, 1200.0]


def test_a_fault_in_looking_after_it_ends_the_server_as_a_failure(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    has_given_up, said = killed(model, FaultyBudget(1), halts_the_next=False)
    assert has_given_up
    assert said == ["Error: the engine cannot be looked after any more (ZeroDivisionError('a fault')); the server ends"]
    assert "Traceback" in caplog.text


def test_patience_that_is_shortened_ends_waits_that_have_begun() -> None:
    async def scenario() -> None:
        patience = Patience(1000.0)

        async def wait() -> None:
            async with patience.bound():
                await asyncio.Event().wait()

        begun = asyncio.create_task(wait())
        await asyncio.sleep(0)
        patience.shorten(0.01)
        with pytest.raises(TimeoutError):
            await begun
        with pytest.raises(TimeoutError):
            await wait()
        patience.shorten(5.0)
        assert patience.seconds == 0.01, "it does not grow"

    asyncio.run(scenario())
