"""The server's answers to good requests: a real process, the real openai client, the simulated executor."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from infergc.client.prepare import CONTEXT_LENGTH, INVALID_VALUE
from infergc.server.entrance.door import SHUTTING_DOWN
from infergc.server.entrance.line import REFUSED_FOR
from samples import served_model, slow_sim
from samples.servers import ROOT, Server, serving, wait_for

LONG = "the quick brown fox jumps over the lazy dog " * 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = served_model.save(tmp_path_factory.mktemp("served"))
    with serving(model, "--executor", slow_sim.NAME, "--served-model-name", "tiny") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_announcement_says_what_is_held_and_what_to_try(server: Server) -> None:
    assert "serves tiny at http://127.0.0.1:" in server.announcement
    assert re.search(r"KV cache +512.0 MiB", server.announcement)
    assert f"one request may use {served_model.CONTEXT:,}" in server.announcement


def test_the_root_lists_what_there_is(server: Server) -> None:
    paths = server.http.get("/").json()
    assert {"POST /v1/completions", "POST /tokenize", "GET /health"} <= set(paths)
    page = (ROOT / "docs" / "api.md").read_text()
    assert all(f"`{path}`" in page for path in paths)


_CODES = re.compile(r'(?:code=|_unavailable\(error, )"(\w+)"|"((?:invalid|missing|unknown|unsupported)_\w+)"')


def test_the_page_has_every_code_of_errors() -> None:
    sources = [path.read_text() for path in (ROOT / "src" / "infergc" / "server").rglob("*.py")]
    told = {one or other for source in sources for one, other in _CODES.findall(source)}
    told |= {CONTEXT_LENGTH, INVALID_VALUE, SHUTTING_DOWN, *REFUSED_FOR}
    assert {"invalid_json", "model_not_found", "unknown_parameter", "engine_stuck"} <= told
    page = (ROOT / "docs" / "api.md").read_text()
    assert not [code for code in told if f"`{code}`" not in page]


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert model.id == "tiny"
    assert client.models.retrieve("tiny").id == "tiny"
    assert model.model_dump()["max_model_len"] == served_model.CONTEXT


def test_health_and_version(server: Server) -> None:
    assert server.http.get("/health").status_code == 200
    assert server.http.get("/version").json()["version"]


def test_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="hello", max_tokens=12, seed=1)
    (choice,) = answer.choices
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert choice.finish_reason == "length"
    assert choice.text
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_max_tokens_is_16_for_completions_and_the_context_for_chats(client: openai.OpenAI) -> None:
    assert client.completions.create(model="tiny", prompt="x", seed=2).usage.completion_tokens == 16
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "x"}], seed=2, extra_body={"ignore_eos": True}
    )
    assert chat.usage.total_tokens == served_model.CONTEXT


def test_a_stream_says_the_same_as_a_whole_answer(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "prompt": "hello", "max_tokens": 40, "seed": 3}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    *texts, last = chunks
    assert "".join(chunk.choices[0].text for chunk in texts) == whole.choices[0].text
    assert texts[-1].choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in texts)
    assert last.choices == []
    assert last.usage.completion_tokens == 40
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_has_no_usage_field_and_ends_with_done(server: Server) -> None:
    answer = server.http.post("/v1/completions", json={"prompt": "hello", "max_tokens": 3, "stream": True})
    frames = answer.text.removesuffix("\n\n").split("\n\n")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert frames[-1] == "data: [DONE]"
    assert all("usage" not in json.loads(frame.removeprefix("data: ")) for frame in frames[:-1])


def test_continuous_usage(server: Server) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": "hello", "max_tokens": 5, "seed": 4, "stream": True, "stream_options": options}
    frames = server.http.post("/v1/completions", json=body).text.split("\n\n")
    counts = [json.loads(frame[6:])["usage"]["completion_tokens"] for frame in frames if '"usage"' in frame]
    assert counts == sorted(counts)
    assert counts[-1] == 5


def test_chat(client: openai.OpenAI) -> None:
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hello"}]
    answer = client.chat.completions.create(model="tiny", messages=messages, max_completion_tokens=9, seed=5)
    (choice,) = answer.choices
    assert answer.object == "chat.completion"
    assert choice.message.role == "assistant"
    assert choice.message.content
    stream = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=9, seed=5, stream=True, stream_options={"include_usage": True}
    )
    opening, *chunks, last = stream
    assert opening.choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == choice.message.content
    assert chunks[-1].choices[0].finish_reason == "length"
    assert last.usage == answer.usage.model_copy(update={"prompt_tokens_details": last.usage.prompt_tokens_details})


def test_chat_content_in_parts_is_the_same_as_text(server: Server) -> None:
    def tokens(content: object) -> list[int]:
        return server.http.post("/tokenize", json={"messages": [{"role": "user", "content": content}]}).json()["tokens"]

    assert tokens([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]) == tokens("a\nb")


def test_batches_of_strings_and_of_ids(client: openai.OpenAI, server: Server) -> None:
    texts = ["hello", "the quick brown fox"]
    ids = [server.http.post("/tokenize", json={"prompt": text}).json()["tokens"] for text in texts]
    asked = {"model": "tiny", "max_tokens": 6, "seed": 6}
    by_text = client.completions.create(**asked, prompt=texts)
    by_ids = client.completions.create(**asked, prompt=ids)
    alone = client.completions.create(**asked, prompt=ids[1])
    assert [choice.index for choice in by_text.choices] == [0, 1]
    assert [c.text for c in by_text.choices] == [c.text for c in by_ids.choices]
    assert by_ids.choices[1].text == alone.choices[0].text
    assert by_ids.usage.completion_tokens == 12
    streamed = ["", ""]
    for chunk in client.completions.create(**asked, prompt=ids, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [choice.text for choice in by_ids.choices]


def test_cached_tokens_are_told(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "prompt": LONG, "max_tokens": 2}
    cold = client.completions.create(**asked, extra_body={"cache_salt": "mine"})
    warm = client.completions.create(**asked, extra_body={"cache_salt": "mine"})
    others = client.completions.create(**asked, extra_body={"cache_salt": "theirs"})
    cached = [answer.usage.prompt_tokens_details.cached_tokens for answer in (cold, warm, others)]
    assert cached[0] == cached[2] == 0
    assert 16 <= cached[1] < warm.usage.prompt_tokens


def test_stop_strings_end_the_text_and_free_the_request(client: openai.OpenAI, server: Server) -> None:
    asked = {"model": "tiny", "prompt": "hello", "max_tokens": 200, "seed": 7, "extra_body": {"ignore_eos": True}}
    text = client.completions.create(**asked).choices[0].text
    stop = text[len(text) // 4 :][:3]
    answer = client.completions.create(**asked, stop=[stop, "never in there"])
    assert answer.choices[0].text == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].model_dump()["stop_reason"] == stop
    assert answer.usage.completion_tokens < 200
    server.wait_until_idle()


def test_stop_token_ids(client: openai.OpenAI) -> None:
    extra = {"ignore_eos": True, "stop_token_ids": list(range(3, 400))}
    answer = client.completions.create(model="tiny", prompt="hello", max_tokens=200, seed=8, extra_body=extra)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].model_dump()["stop_reason"] in range(3, 400)
    assert answer.choices[0].text == ""
    assert answer.usage.completion_tokens == 1


def test_without_a_seed_answers_vary_and_with_one_they_do_not(client: openai.OpenAI) -> None:
    def text(**more: int) -> str:
        return client.completions.create(model="tiny", prompt="hello", max_tokens=20, **more).choices[0].text

    assert text() != text()
    assert text(seed=9) == text(seed=9) != text(seed=10)


def test_tokenize_and_detokenize(server: Server) -> None:
    text = "the quick brown fox 😀"
    answer = server.http.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
    assert answer["count"] == len(answer["tokens"]) > 0
    assert answer["max_model_len"] == served_model.CONTEXT
    assert server.http.post("/tokenize", json={"content": text}).json()["count"] == answer["count"] + 1
    assert server.http.post("/detokenize", json={"tokens": answer["tokens"]}).json()["prompt"] == text


def test_the_request_id_comes_back(server: Server) -> None:
    assert server.http.get("/health", headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"
    first, second = (server.http.get("/health").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_metrics_add_up(server: Server, client: openai.OpenAI) -> None:
    before = server.metrics()
    client.completions.create(model="tiny", prompt=LONG, max_tokens=10)
    server.wait_until_idle()
    after = server.metrics()
    labels = '{engine="0",model_name="tiny"}'

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grew("infergc_generation_tokens_total") == grew(f"vllm:generation_tokens_total{labels}") == 10
    assert grew(f"vllm:time_to_first_token_seconds_count{labels}") == 1
    assert grew(f"vllm:inter_token_latency_seconds_count{labels}") == 9
    assert grew(f"vllm:e2e_request_latency_seconds_count{labels}") == 1
    assert grew(f"vllm:request_prompt_tokens_count{labels}") == 1
    assert grew(f"vllm:request_generation_tokens_sum{labels}") == 10
    assert grew(f"vllm:request_decode_time_seconds_count{labels}") == 1
    assert grew('vllm:request_success_total{engine="0",finished_reason="length",model_name="tiny"}') == 1
    assert grew('infergc_requests_finished_total{reason="length"}') == 1
    pages = sum(server.pages(state) for state in ("free", "live", "cached", "in_transit"))
    assert pages == after['infergc_kv_pages_capacity{group="full",tier="device"}'] > 0
    assert server.pages("cached") > 0
    assert 0 <= after['infergc_kv_fragmentation_ratio{group="full",tier="device"}'] <= 1
    assert {"infergc_compactions_total", "infergc_compaction_moved_pages_total"} <= set(after)
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions_total",
             "prefix_cache_queries_total", "prefix_cache_hits_total", "prompt_tokens_total")  # fmt: skip
    assert all(f"vllm:{name}{labels}" in after for name in names)
    assert any(name.startswith("vllm:cache_config_info{") for name in after)


def test_pauses_of_pythons_collector_are_in_the_metrics(server: Server, client: openai.OpenAI) -> None:
    client.completions.create(model="tiny", prompt=LONG, max_tokens=10)
    idle = 'infergc_python_gc_full_runs_total{reason="idle"}'
    wait_for(lambda: server.metrics()[idle], "no collection in the gap")
    metrics = server.metrics()
    full = '{generation="2"}'
    assert metrics[f"infergc_python_gc_collections_total{full}"] > metrics[idle], "it collects before it freezes, too"
    longest = metrics[f"infergc_python_gc_longest_pause_seconds{full}"]
    assert 0 < longest <= metrics[f"infergc_python_gc_pause_seconds_total{full}"] < 60
    for name in ("collected", "uncollectable"):
        assert f"infergc_python_gc_{name}_objects_total{full}" in metrics
    assert metrics["infergc_tensors"] == metrics["infergc_tensor_bytes"] == 0, "the simulator has none"


def test_every_metric_is_described(server: Server) -> None:
    text = server.http.get("/metrics").text
    assert "The engine's counter" not in text
    assert "# HELP vllm:num_preemptions_total Alias of infergc_preemptions_total.\n" in text


def test_openmetrics_is_given_to_who_asks(server: Server) -> None:
    answer = server.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_a_key_guards_everything_but_health(tmp_path: Path) -> None:
    model = served_model.save(tmp_path / "served")
    with serving(model, "--executor", slow_sim.NAME, INFERGC_API_KEY="s3cret") as server:
        for path in ("/health", "/health/ready", "/health/live"):
            assert server.http.get(path).status_code == 200
        for path in ("/v1/models", "/metrics", "/version", "/", "/openapi.json", "/nothing"):
            answer = server.http.get(path)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="s3cret", max_retries=0) as right:
            assert right.completions.create(model="served", prompt="hello", max_tokens=1).usage.completion_tokens == 1


def by_choice(chunks: list[Any]) -> dict[int, list[Any]]:
    """The choices of a stream's chunks, by their index."""
    choices: dict[int, list[Any]] = {}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        choices.setdefault(choice.index, []).append(choice)
    return choices


def test_several_choices_of_several_prompts(server: Server, client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "prompt": ["hello", "the quick"], "max_tokens": 12, "seed": 5, "n": 3}
    asked["extra_body"] = {"ignore_eos": True}
    before = server.metrics()
    whole = client.completions.create(**asked)
    server.wait_until_idle()
    after = server.metrics()
    assert [choice.index for choice in whole.choices] == list(range(6))
    assert len({choice.text for choice in whole.choices}) == 6
    alone = client.completions.create(**{**asked, "n": 1})
    assert [whole.choices[0].text, whole.choices[3].text] == [choice.text for choice in alone.choices]
    assert whole.usage.prompt_tokens == alone.usage.prompt_tokens
    assert whole.usage.completion_tokens == 3 * alone.usage.completion_tokens == 72
    for name, tokens in (("prompt", whole.usage.prompt_tokens), ("generation", 72)):
        counter = f"infergc_{name}_tokens_total"
        assert after[counter] - before[counter] == tokens

    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    streamed = by_choice(chunks)
    assert ["".join(part.text for part in streamed[index]) for index in range(6)] == [
        choice.text for choice in whole.choices
    ]
    assert chunks[-1].usage.completion_tokens == 72
    for parts in streamed.values():
        assert [part.finish_reason for part in parts if part.finish_reason] == ["length"]


def test_a_stop_string_ends_its_choice_once_and_alone(server: Server, client: openai.OpenAI) -> None:
    asked = {
        "model": "tiny",
        "prompt": "hello",
        "max_tokens": 60,
        "seed": 5,
        "n": 3,
        "extra_body": {"ignore_eos": True},
    }
    texts = [choice.text for choice in client.completions.create(**asked).choices]
    middle = texts[1][len(texts[1]) // 3 :]
    stop = next(middle[:size] for size in range(1, 20) if not any(middle[:size] in texts[at] for at in (0, 2)))
    streamed = by_choice(list(client.completions.create(**asked, stop=stop, stream=True)))
    assert ["".join(part.text for part in streamed[at]) for at in range(3)] == [
        texts[0], texts[1][: texts[1].index(stop)], texts[2]
    ]  # fmt: skip
    reasons = [[part.finish_reason for part in streamed[at] if part.finish_reason] for at in range(3)]
    assert reasons == [["length"], ["stop"], ["length"]]
    server.wait_until_idle()


def test_choices_of_a_chat(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "seed": 2, "max_tokens": 9, "n": 2}
    whole = client.chat.completions.create(**asked)
    streamed = by_choice(list(client.chat.completions.create(**asked, stream=True)))
    assert [choice.index for choice in whole.choices] == [0, 1]
    for choice in whole.choices:
        parts = streamed[choice.index]
        assert parts[0].delta.role == "assistant"
        assert "".join(part.delta.content or "" for part in parts) == choice.message.content


def test_a_beam_search_and_what_is_left_of_it(server: Server, client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "prompt": "hello", "max_tokens": 12, "n": 2, "extra_body": {
        "use_beam_search": True, "beam_width": 5, "ignore_eos": True, "length_penalty": 0.5, "early_stopping": "never",
    }}  # fmt: skip
    whole = client.completions.create(**asked)
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert whole.usage.completion_tokens == 24
    chunks = list(client.completions.create(**asked, stream=True))
    assert [choice.text for chunk in chunks for choice in chunk.choices] == [choice.text for choice in whole.choices]
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "x"}], max_tokens=9, n=3,
        extra_body={"use_beam_search": True},
    )  # fmt: skip
    assert len(chat.choices) == 3
    with client.completions.create(**{**asked, "max_tokens": 900, "n": 1}, stream=True):
        pass
    server.wait_until_idle()
