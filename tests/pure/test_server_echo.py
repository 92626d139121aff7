"""``echo`` and prompt log probabilities of a real server under the simulated executor."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from infergc import LLM, SamplingParams
from samples import served_model, slow_sim
from samples.servers import Server, serving

TEXT = "the quick brown fox 😀 jumps"
ASKED: dict[str, Any] = {
    "model": "tiny",
    "prompt": TEXT,
    "max_tokens": 4,
    "seed": 1,
    "extra_body": {"ignore_eos": True},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = served_model.save(tmp_path_factory.mktemp("served") / "tiny")
    with serving(model, "--executor", slow_sim.NAME) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def ids_of(server: Server, text: str) -> list[int]:
    tokens: list[int] = server.http.post("/tokenize", json={"prompt": text}).json()["tokens"]
    return tokens


def test_the_prompt_stands_before_each_text(client: openai.OpenAI) -> None:
    asked = {**ASKED, "prompt": [TEXT, "hello"], "n": 2}
    plain, echoed = (client.completions.create(**asked, echo=echo) for echo in (False, True))
    prompts = [TEXT, TEXT, "hello", "hello"]
    assert [choice.text for choice in echoed.choices] == [
        prompt + choice.text for prompt, choice in zip(prompts, plain.choices, strict=True)
    ]
    assert all(choice.logprobs is None for choice in echoed.choices)
    assert echoed.usage.completion_tokens == plain.usage.completion_tokens == 16
    streamed = [""] * 4
    for chunk in client.completions.create(**asked, echo=True, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [choice.text for choice in echoed.choices]


def test_log_probabilities_of_prompt_and_output_are_parallel_lists(client: openai.OpenAI, server: Server) -> None:
    plain = client.completions.create(**ASKED, logprobs=2).choices[0]
    (choice,) = client.completions.create(**ASKED, logprobs=2, echo=True).choices
    told, ids = choice.logprobs, ids_of(server, TEXT)
    lists = (told.tokens, told.token_logprobs, told.top_logprobs, told.text_offset)
    assert {len(column) for column in lists} == {len(ids) + 4}
    assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    assert all(value < 0 for value in told.token_logprobs[1:])
    assert all(2 <= len(top) <= 3 for top in told.top_logprobs[1:])
    assert told.tokens[len(ids) :] == plain.logprobs.tokens
    assert told.token_logprobs[len(ids) :] == plain.logprobs.token_logprobs
    assert [at - len(TEXT) for at in told.text_offset[len(ids) :]] == plain.logprobs.text_offset
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        assert token.startswith("bytes:") or token == "<s>" or choice.text[offset:].startswith(token)
    assert told.text_offset[:2] == [0, 0], "what the tokenizer put before the text has no place in it"


def test_streams_say_the_same_of_each_choice(client: openai.OpenAI) -> None:
    asked = {**ASKED, "prompt": [TEXT, "hello"], "n": 2, "logprobs": 1, "echo": True}
    whole = client.completions.create(**asked).choices
    assert whole[0].logprobs.token_logprobs[1:4] == whole[1].logprobs.token_logprobs[1:4]
    columns: list[dict[str, list[Any]]] = [{} for _ in whole]
    for chunk in client.completions.create(**asked, stream=True):
        for name, values in chunk.choices[0].logprobs.model_dump().items():
            columns[chunk.choices[0].index].setdefault(name, []).extend(values)
    assert columns == [choice.logprobs.model_dump() for choice in whole]


@pytest.mark.parametrize("stream", [False, True])
def test_no_tokens_but_the_prompts(client: openai.OpenAI, server: Server, stream: bool) -> None:
    asked = {**ASKED, "max_tokens": 0, "echo": True, "logprobs": 0, "stream": stream}
    if stream:
        asked["stream_options"] = {"include_usage": True}
        chunk, last = client.completions.create(**asked)
        (choice,), usage = chunk.choices, last.usage
    else:
        answer = client.completions.create(**asked)
        (choice,), usage = answer.choices, answer.usage
    assert (choice.text, choice.finish_reason, usage.completion_tokens) == (TEXT, "length", 0)
    assert len(choice.logprobs.token_logprobs) == len(ids_of(server, TEXT)) == usage.prompt_tokens
    assert all(len(top) == 1 for top in choice.logprobs.top_logprobs[1:])


def test_as_lm_eval_asks(client: openai.OpenAI, server: Server) -> None:
    """Prompts as ids; it sums the log probabilities behind the context but the last, and looks who is likeliest."""
    batch = [ids_of(server, text) for text in (TEXT, "hello, said the fox")]
    body = {"prompt": batch, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1, "seed": 1234}
    answers = [server.http.post("/v1/completions", json=body).json() for _ in range(2)]
    for ids, cold, warm in zip(batch, answers[0]["choices"], answers[1]["choices"], strict=True):
        values, tops = cold["logprobs"]["token_logprobs"], cold["logprobs"]["top_logprobs"]
        assert len(values) == len(tops) == len(ids) + 1
        assert all(max(top.values()) >= value for value, top in zip(values[1:-1], tops[1:-1], strict=True))
        assert cold["logprobs"] == warm["logprobs"], "with its pages in the cache"
    assert answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_vllms_field_names_tokens_by_id(server: Server) -> None:
    body = {"prompt": "hello, said the fox", "max_tokens": 1, "prompt_logprobs": 1}
    ids = ids_of(server, body["prompt"])
    (choice,) = server.http.post("/v1/completions", json=body).json()["choices"]
    first, *others = choice["prompt_logprobs"]
    assert first is None
    assert choice["logprobs"] is None
    for token, entries in zip(ids[1:], others, strict=True):
        own = entries[str(token)]
        assert set(own) == {"logprob", "rank", "decoded_token"}
        assert {entry["rank"] for entry in entries.values()} == {1, own["rank"]}
    plain = server.http.post("/v1/completions", json={**body, "prompt_logprobs": None}).json()
    assert "prompt_logprobs" not in plain["choices"][0]


def test_the_offline_api_gives_them_as_vllms_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = served_model.save(tmp_path_factory.mktemp("offline"))
    with LLM(model, executor="infergc.sim.executor:create_executor") as llm:
        params = SamplingParams(max_tokens=2, seed=1, prompt_logprobs=2, n=2)
        several, single = llm.generate([TEXT, {"prompt_token_ids": [5]}], params, use_tqdm=False)
        assert single.prompt_logprobs == [None]
        assert several.prompt_logprobs is not None
        assert several.prompt_logprobs[0] is None
        for token, entries in zip(several.prompt_token_ids[1:], several.prompt_logprobs[1:], strict=True):
            assert entries is not None
            assert entries[token].decoded_token == llm.get_tokenizer().token_text(token)
            assert 2 <= len(entries) <= 3
        (plain,) = llm.generate(TEXT, SamplingParams(max_tokens=1), use_tqdm=False)
        assert plain.prompt_logprobs is None
