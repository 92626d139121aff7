"""openai-python against a real model: its own types hold strictly, its helpers work, its errors and retries."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import monotonic
from typing import Any, Literal

import httpx
import openai
import psutil
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from cpu.served import make_served
from samples.servers import PATIENCE, Server, serving, wait_for

KEY = "cl1ent"
ENGINE = "infergc.engine.process"
MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
ENDLESS = {"prompt": ["hello"] * 4, "max_tokens": 3000, "ignore_eos": True, "stream": True}
EXTRA = {"stop_reason", "max_model_len", "root"}  # what vLLM adds to the OpenAI API, and clients of its look for
END = {"1": 100}  # the end token, as soon as it is allowed
ASKED: dict[str, Any] = {"max_tokens": 6, "seed": 1, "n": 2}
BODIES = {
    "/v1/completions": {"prompt": ["hello", "the quick"], "logprobs": 2, **ASKED},
    "/v1/chat/completions": {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, **ASKED},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = make_served(tmp_path_factory.mktemp("served"))
    flags = ("--dtype", "float32", "--kv-cache-memory", "16MiB", "--threads", "1", "--served-model-name", "real",
             "--max-num-seqs", "4", "--max-num-queued-reqs", "0", "--api-key", KEY)  # fmt: skip
    with serving(model, *flags) as running:
        running.http.headers["authorization"] = f"Bearer {KEY}"
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as opened:
        yield opened


def strict(kind: type[openai.BaseModel], raw: str | bytes) -> None:
    """The answer is of the client's type: nothing is converted, nothing is missing, and nothing is beyond it."""
    parsed = kind.model_validate_json(raw, strict=True)
    assert unknown(parsed) <= EXTRA


def unknown(model: Any) -> set[str]:
    if isinstance(model, list):
        return set().union(*map(unknown, model))
    if not isinstance(model, openai.BaseModel):
        return set()
    found = set(model.model_extra or {})
    return found.union(*(unknown(getattr(model, name)) for name in type(model).model_fields))


@pytest.mark.parametrize(
    ("path", "whole", "chunk"),
    [("/v1/completions", Completion, Completion), ("/v1/chat/completions", ChatCompletion, ChatCompletionChunk)],
)
def test_answers_are_strictly_of_its_types(server: Server, path: str, whole: Any, chunk: Any) -> None:
    strict(whole, server.http.post(path, json=BODIES[path]).content)
    options = {"include_usage": True, "continuous_usage_stats": True}
    for extra in ({}, {"stream_options": {"include_usage": True}}, {"stream_options": options}):
        text = server.http.post(path, json={**BODIES[path], "stream": True, **extra}).text
        *frames, last = text.removesuffix("\n\n").split("\n\n")
        assert last == "data: [DONE]"
        for frame in frames:
            body = frame.removeprefix("data: ")
            strict(chunk, as_typed(body) if chunk is Completion else body)


def as_typed(frame: str) -> str:
    """Only a completion's last chunk has a reason to end, in the OpenAI API too; its type knows no other chunks."""
    return frame.replace('"finish_reason":null', '"finish_reason":"stop"')


def test_models_are_strictly_of_its_type(server: Server) -> None:
    (model,) = server.http.get("/v1/models").json()["data"]
    strict(Model, json.dumps(model))


def test_the_stream_helper_gathers_what_a_whole_answer_says(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "real", "messages": MESSAGES, "seed": 2, "logprobs": True, "logit_bias": END,
                             "extra_body": {"min_tokens": 6}}  # fmt: skip
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        gathered = stream.get_final_completion()
    assert gathered.choices[0].message.content == whole.choices[0].message.content == "".join(deltas)
    assert gathered.choices[0].finish_reason == whole.choices[0].finish_reason
    assert gathered.choices[0].logprobs.content == whole.choices[0].logprobs.content
    assert gathered.usage.completion_tokens == whole.usage.completion_tokens


def test_the_request_id_is_its_own_or_the_servers(client: openai.OpenAI) -> None:
    asked = {"model": "real", "prompt": "hello", "max_tokens": 1}
    assert client.completions.create(**asked)._request_id
    named = client.completions.create(**asked, extra_headers={"x-request-id": "mine"})
    assert named._request_id == "mine"
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**asked, temperature=-1, extra_headers={"x-request-id": "mine too"})
    assert refused.value.request_id == "mine too"


def test_errors_are_of_its_classes(server: Server, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "real", "prompt": "hello", "max_tokens": 1}
    with pytest.raises(openai.AuthenticationError) as unknown_key:
        client.with_options(api_key="wrong").completions.create(**asked)
    assert unknown_key.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**asked, top_p=7)
    assert (refused.value.param, refused.value.code) == ("top_p", "invalid_value")
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(**asked | {"model": "another"})
    assert missing.value.code == "model_not_found"
    endless = asked | {"max_tokens": 3000, "extra_body": {"ignore_eos": True}}
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).completions.create(**endless)
    server.wait_until_idle()


def test_it_comes_again_when_it_was_told_to(server: Server) -> None:
    """Its own retries, where no place is free: it waits for as long as Retry-After says, and is served in the end."""
    answers: list[tuple[int, float, float]] = []

    def note(response: httpx.Response) -> None:
        answers.append((response.status_code, monotonic(), float(response.headers.get("retry-after", 0))))

    http = httpx.Client(event_hooks={"response": [note]}, timeout=PATIENCE)
    patient = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=60, http_client=http)
    with patient, ThreadPoolExecutor(1) as pool:
        with server.http.stream("POST", "/v1/completions", json=ENDLESS):
            wait_for(lambda: server.requests("running") == len(ENDLESS["prompt"]))
            asking = pool.submit(patient.completions.create, model="real", prompt="hello", max_tokens=1)
            wait_for(lambda: answers)
        assert asking.result(PATIENCE).usage.completion_tokens == 1
    assert [status for status, _, _ in answers] == [429] * (len(answers) - 1) + [200]
    for (_, before, wanted), (_, after, _) in pairwise(answers):
        assert after - before >= wanted >= 1


class Person(BaseModel):
    name: Literal["ann", "bob"]
    is_old: bool


def test_parse_gives_an_object_of_the_class(server: Server, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "real", "messages": MESSAGES, "max_tokens": 60, "seed": 3}
    answer = client.chat.completions.parse(**asked, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)
    with client.chat.completions.stream(**asked, response_format=Person) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == answer.choices[0].message.parsed
    server.wait_until_idle()
    assert not server.metrics()["infergc_step_failures_total"], "its end is the end of all that was constrained"


def test_the_asynchronous_client_is_answered(server: Server) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
            stream = await client.completions.create(model="real", prompt="hello", max_tokens=6, seed=1, stream=True)
            whole = await client.completions.create(model="real", prompt="hello", max_tokens=6, seed=1)
            return ["".join([chunk.choices[0].text async for chunk in stream]), whole.choices[0].text]

    assert len(set(asyncio.run(ask()))) == 1


def test_it_comes_again_until_another_engine_serves(server: Server, client: openai.OpenAI) -> None:
    """Last, for the engine of all tests here is killed: 503 with ``Retry-After`` costs its user nothing but time."""
    asked: dict[str, Any] = {"model": "real", "prompt": "hello", "max_tokens": 8, "seed": 1}
    text = client.completions.create(**asked).choices[0].text
    engines = [each for each in psutil.Process(server.process.pid).children() if ENGINE in each.cmdline()]
    engines[0].kill()
    with pytest.raises(openai.InternalServerError) as refused:
        list(iter(lambda: client.completions.create(**asked), None))
    assert refused.value.code in {"engine_unavailable", "engine_restarting"}
    assert client.with_options(max_retries=20).completions.create(**asked).choices[0].text == text
    assert server.metrics()["infergc_engine_restarts_total"] == 1
