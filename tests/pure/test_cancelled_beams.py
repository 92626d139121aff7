"""Beam searches that are cancelled leave cycles: with the collector they go, without it they stay."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infergc.client import EngineClient
from infergc.config import engine_config
from infergc.params import SamplingParams
from samples import served_model, slow_sim
from samples.at_rest import at_rest, kv_of
from samples.servers import PATIENCE, ROOT

SEARCHES, WIDTH = 3, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served"))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


async def cancelled(model: Path, gc: str, patience: float) -> tuple[dict[str, Any], bool]:
    """Cancel beam searches while they run, beside a request that goes on; all of them fit into the engine's slots.

    Returns the engine's figures at rest, and whether another request was served so soon while the one beside went on.
    """
    settings = {"kv_cache_memory": "4MiB", "max_num_seqs": SEARCHES * WIDTH + 1, "executor": slow_sim.DAWDLING}
    client = await EngineClient.start(engine_config(model=model, gc=gc, **settings))
    try:
        with client.submit(client.request([5, 6, 7], SamplingParams(max_tokens=1000, ignore_eos=True))):
            for number in range(SEARCHES):
                await cancel_one(client, [*range(5, 60), 5 + number])
            served = await is_served(client, patience)
        return await at_rest(client), served
    finally:
        await client.close()


async def cancel_one(client: EngineClient, prompt: list[int]) -> None:
    """Start a search, leave it when all its hypotheses run, and wait until the engine says so."""
    params = SamplingParams(n=WIDTH, use_beam_search=True, max_tokens=200, ignore_eos=True)
    with client.submit(client.request(prompt, params)):
        await until(client, lambda running: running == WIDTH + 1)
    await until(client, lambda running: running == 1)


async def until(client: EngineClient, holds: Callable[[int], bool]) -> None:
    """Wait until this holds of the requests that run."""
    async with asyncio.timeout(PATIENCE):
        while not client.stats or not holds(client.stats["requests"]["running"]):
            await asyncio.sleep(0.005)


async def is_served(client: EngineClient, patience: float) -> bool:
    request = client.request([9, 10], SamplingParams(max_tokens=2, ignore_eos=True))
    with client.submit(request) as stream:
        try:
            async with asyncio.timeout(patience):
                return sum([delta.finish == "length" async for deltas in stream for delta in deltas]) == 1
        except TimeoutError:
            return False


def test_a_cancelled_beam_search_moves_the_cycle_counter(model: Path) -> None:
    figures, served = asyncio.run(cancelled(model, "on", patience=10.0))
    assert figures["counters"]["finished_abort"] > SEARCHES * WIDTH
    assert figures["collector"]["cycles"] == SEARCHES
    assert figures["collector"]["cycle_objects"] == SEARCHES * (WIDTH + 1)
    assert kv_of(figures)["live"] == kv_of(figures)["in_transit"] == 0
    assert served


def test_without_the_collector_the_same_load_leaks_pages_and_slots(model: Path) -> None:
    figures, served = asyncio.run(cancelled(model, "off", patience=1.0))
    assert figures["counters"]["finished_abort"] > SEARCHES * WIDTH
    assert figures["collector"]["cycles"] == 0
    assert figures["requests"] == {"running": 0, "waiting": 0}
    assert kv_of(figures)["live"] >= 3 + SEARCHES, "what the prompts share, and a tail of each search at least"
    assert not served, "every slot but one is lost"
