"""EngineClient over real engine processes; RequestStream and RequestBuilder by themselves."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from infergc.client import EngineClient, EngineDeadError, EngineStartError, PromptError, RequestBuilder, RequestStream
from infergc.config import engine_config
from infergc.engine.messages import Delta, Logprobs, Ready, Submit
from infergc.params import ParameterError, SamplingParams
from samples import served_model, slow_sim
from samples.servers import PATIENCE, ROOT

SURROGATE = "\ud800"  # no UTF-8 text holds half a pair

READY = Ready(100, 50, (1,), "float32", "sim", {}, 4096)
PARAMS = SamplingParams(max_tokens=20, ignore_eos=True)
ENDLESS = SamplingParams(max_tokens=None, ignore_eos=True)

Test = Callable[[Path], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served"))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


@asynccontextmanager
async def started(model: Path, **settings: Any) -> AsyncIterator[EngineClient]:
    client = await EngineClient.start(engine_config(model=model, executor=slow_sim.DAWDLING, **settings))
    try:
        yield client
    finally:
        await client.close()


async def tokens(stream: RequestStream) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    async for deltas in stream:
        for delta in deltas:
            found.setdefault(delta.request_id, []).extend(delta.tokens)
    return found


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_requests_run_and_the_heap_is_whole_after(model: Path) -> None:
    async def scenario() -> None:
        async with started(model) as client:
            assert client.ready.max_model_len == served_model.CONTEXT
            requests = [client.request([5, 6, number], PARAMS) for number in range(10)]
            with client.submit(*requests) as stream:
                found = await tokens(stream)
            assert [len(found[request.request_id]) for request in requests] == [20] * 10
            assert await asyncio.gather(client.verify(), client.verify()) == ["", ""]
            assert client.stats["counters"]["finished_length"] == 10
            assert client.stats["kv"]["full"]["live"] == 0

    asyncio.run(scenario())
    assert children() == []


def test_counters_are_there_before_the_first_request(model: Path) -> None:
    async def scenario() -> None:
        async with started(model) as client:
            while not client.stats:
                await asyncio.sleep(0.01)
            assert client.stats["kv"]["full"]["free"] == client.stats["kv"]["full"]["capacity"]

    asyncio.run(scenario())


def test_leaving_a_stream_aborts_and_frees(model: Path) -> None:
    async def scenario() -> None:
        async with started(model) as client:
            with client.submit(client.request([5], ENDLESS), client.request([6], ENDLESS)) as stream:
                await anext(stream)
            await client.verify()
            while client.stats["counters"]["finished_abort"] < 2:
                await asyncio.sleep(0.01)
            assert client.stats["kv"]["full"]["live"] == 0

    asyncio.run(scenario())


def test_abort_ends_the_stream_with_the_word_for_it(model: Path) -> None:
    async def scenario() -> None:
        async with started(model) as client:
            stream = client.submit(client.request([5], ENDLESS, "mine"))
            await anext(stream)
            client.abort("mine")
            client.abort("nobody's")
            last = [delta async for deltas in stream for delta in deltas][-1]
            assert last.finish == "abort"

    asyncio.run(scenario())


def test_request_ids_must_differ(model: Path) -> None:
    async def scenario() -> None:
        async with started(model) as client:
            request = client.request([5], ENDLESS, "mine")
            with client.submit(request), pytest.raises(ValueError, match="request_id"):
                client.submit(request)
            with pytest.raises(ValueError, match="request_id"):
                client.submit(client.request([5], PARAMS, "a"), client.request([5], PARAMS, "a"))

    asyncio.run(scenario())


def test_an_id_is_free_again_once_the_engine_is_done_with_it(model: Path) -> None:
    async def scenario() -> None:
        async with started(model) as client:
            with client.submit(client.request([5], ENDLESS, "mine")) as stream:
                await anext(stream)
            with pytest.raises(ValueError, match=r"^request_id: .*mine.* last word"):
                client.submit(client.request([6], PARAMS, "mine"))
            await client.verify()  # answered after the abort
            found = [delta async for deltas in client.submit(client.request([6], PARAMS, "mine")) for delta in deltas]
            assert found[-1].finish == "length"
            assert sum(len(delta.tokens) for delta in found) == 20

    asyncio.run(scenario())


@pytest.mark.parametrize("field", [{"salt": SURROGATE}, {"request_id": SURROGATE}, {"priority": 10**24}])
def test_a_request_that_cannot_be_sent_is_the_callers_alone(model: Path, field: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with started(model) as client:
            bad = Submit(**{"request_id": "bad", "prompt": [5], "params": replace(PARAMS, seed=1), **field})
            with client.submit(client.request([5], PARAMS)) as stream:
                with pytest.raises((ValueError, OverflowError)):
                    client.submit(bad)
                with client.submit(client.request([6], PARAMS)) as later:
                    found = await asyncio.wait_for(asyncio.gather(tokens(stream), tokens(later)), PATIENCE)
            assert [len(ids) for deltas in found for ids in deltas.values()] == [20, 20]

    asyncio.run(scenario())


def test_a_killed_engine_fails_all_that_waits(model: Path) -> None:
    async def scenario() -> None:
        async with started(model) as client:
            streams = [client.submit(client.request([5], ENDLESS)) for _ in range(3)]
            await anext(streams[0])
            os.kill(children()[0].pid, signal.SIGKILL)
            results = await asyncio.wait_for(asyncio.gather(*map(tokens, streams), return_exceptions=True), PATIENCE)
            assert [type(result) for result in results] == [EngineDeadError] * 3
            assert "killed by SIGKILL" in str(results[0])
            assert not client.healthy
            with pytest.raises(EngineDeadError):
                client.submit(client.request([5], PARAMS))
            with pytest.raises(EngineDeadError):
                await client.verify()

    asyncio.run(scenario())
    assert children() == []


def test_closing_fails_open_requests_and_may_be_repeated(model: Path) -> None:
    async def scenario() -> None:
        client = await EngineClient.start(engine_config(model=model, executor=slow_sim.DAWDLING))
        stream = client.submit(client.request([5], ENDLESS))
        await client.close()
        await client.close()
        with pytest.raises(EngineDeadError):
            await tokens(stream)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"executor": "nowhere:create"}, "--executor"),
        ({"executor": "samples.slow_sim:nothing"}, "--executor"),
        ({"executor": "os:_exit"}, "ended before it was ready"),
        ({"executor": slow_sim.NAME, "max_model_len": 10**6}, "--max-model-len"),
        ({"executor": slow_sim.NAME, "model": "/nowhere"}, "config.json"),
    ],
)
def test_an_engine_that_cannot_start_says_why(model: Path, settings: dict[str, Any], words: str) -> None:
    async def scenario() -> None:
        with pytest.raises(EngineStartError, match=words):
            await EngineClient.start(engine_config(**{"model": model, **settings}))

    asyncio.run(scenario())
    assert children() == []


def test_giving_up_on_a_start_leaves_no_process(model: Path) -> None:
    async def scenario() -> None:
        start = asyncio.create_task(EngineClient.start(engine_config(model=model, executor=slow_sim.SLOW_START)))
        while not children():
            await asyncio.sleep(0.01)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    asyncio.run(scenario())
    assert children() == []


def report(value: float) -> Logprobs:
    return Logprobs(value, 1, (), ())


def test_news_that_nobody_reads_is_merged() -> None:
    async def scenario() -> None:
        stream = RequestStream(["a", "b"], abort=lambda _: None)
        stream.put(Delta("a", [1], cached_tokens=16, logprobs=[report(-1)]))
        stream.put(Delta("b", [7]))
        stream.put(Delta("a", [2, 3], cached_tokens=0, logprobs=[report(-2), report(-3)]))
        stream.put(Delta("a", [4], "stop", 4, logprobs=[report(-4)]))
        merged, other = await anext(stream)
        assert merged == Delta("a", [1, 2, 3, 4], "stop", 4, 16, [report(-1), report(-2), report(-3), report(-4)])
        assert other == Delta("b", [7])
        stream.put(Delta("b", [], "length"))
        assert [deltas async for deltas in stream] == [[Delta("b", [], "length")]]

    asyncio.run(scenario())


def test_pending_news_comes_before_the_error() -> None:
    async def scenario() -> None:
        aborted: list[str] = []
        stream = RequestStream(["a", "b"], abort=aborted.extend)
        stream.put(Delta("a", [1]))
        stream.fail(EngineDeadError("gone"))
        assert await anext(stream) == [Delta("a", [1])]
        with pytest.raises(EngineDeadError):
            await anext(stream)
        stream.close()
        assert aborted == [], "there is nobody to abort them"

    asyncio.run(scenario())


def test_closing_aborts_only_what_is_unfinished_and_once() -> None:
    async def scenario() -> None:
        aborted: list[str] = []
        with RequestStream(["a", "b", "c"], abort=aborted.extend) as stream:
            stream.put(Delta("b", [1], "length"))
        stream.close()
        assert aborted == ["a", "c"]
        stream.put(Delta("a", [2], "abort"))
        assert [deltas async for deltas in stream] == [[Delta("b", [1], "length")]], "nobody waits for a's"

    asyncio.run(scenario())


def test_seeds_are_drawn_from_the_engines_seed() -> None:
    def drawn(seed: int) -> list[int | None]:
        builder = RequestBuilder(READY, seed)
        return [builder.build([1], SamplingParams()).params.seed for _ in range(5)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 5
    given = RequestBuilder(READY, 0).build([1], SamplingParams(seed=9))
    assert given.params.seed == 9


@pytest.mark.parametrize(
    ("prompt", "params", "field", "words"),
    [
        ([], PARAMS, "prompt", "at least one"),
        ([50], PARAMS, "prompt", "0 to 49"),
        ([-1], PARAMS, "prompt", "0 to 49"),
        (["a"], PARAMS, "prompt", "0 to 49"),
        ([True], PARAMS, "prompt", "0 to 49"),
        ([1] * 100, PARAMS, "prompt", "at most 99"),
        (
            [1] * 81,
            PARAMS,
            "max_tokens",
            "20 is too many; .* 100 tokens, .* of 81 at most 19 are allowed",
        ),
        ([1], replace(PARAMS, stop_token_ids=(50,)), "stop_token_ids", "0 to 49"),
        ([1], replace(PARAMS, logit_bias={60: 1.0}), "logit_bias", "0 to 49"),
    ],
)
def test_bad_requests_are_named(prompt: list[Any], params: SamplingParams, field: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as refused:
        RequestBuilder(READY, 0).build(prompt, params)
    assert refused.value.field == field
    assert isinstance(refused.value, PromptError) == (field in {"prompt", "max_tokens"})
    RequestBuilder(READY, 0).build([1] * 80, PARAMS)


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"cache_salt": SURROGATE}, "cache_salt", "surrogate"),
        ({"cache_salt": "é" * 1025}, "cache_salt", "1024"),
        ({"cache_salt": 5}, "cache_salt", "5 is not a text"),
        ({"request_id": SURROGATE}, "request_id", "surrogate"),
        ({"request_id": "a" * 1025}, "request_id", "1024"),
        ({"priority": 2**31}, "priority", "2147483647"),
        ({"priority": -(2**31) - 1}, "priority", "-2147483648"),
        ({"priority": 1.5}, "priority", "integer"),
    ],
)
def test_what_a_request_carries_is_bounded(given: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ParameterError, match=f"^{field}: .*{words}") as refused:
        RequestBuilder(READY, 0).build([1], PARAMS, **given)
    assert refused.value.field == field


def test_what_a_request_may_carry() -> None:
    for priority in (-(2**31), 2**31 - 1):
        built = RequestBuilder(READY, 0).build([1], PARAMS, "é" * 1024, priority=priority, cache_salt="😀" * 1024)
        assert (built.request_id, built.priority, built.salt) == ("é" * 1024, priority, "😀" * 1024)
