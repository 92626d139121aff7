"""A real model behind a real server process, asked by the real openai client."""

import re
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from click.testing import CliRunner

from cpu.served import demo_model, make_served
from infergc import LLM, SamplingParams
from infergc.cli import main
from samples.servers import ROOT, Server, infergc_result, post_and_leave, serving, wait_for

HOLDERS = ("runtime", "weights", "activations", "kv")
FLAGS = ("--dtype", "float32", "--kv-cache-memory", "16MiB", "--threads", "1", "--served-model-name", "real")
PROMPTS = ["the quick brown fox", "hello"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model, *FLAGS) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_the_ledger_is_printed(server: Server) -> None:
    titles = ("runtime and libraries", "weights", "activations", "KV cache", "at most, together")
    rows = [server.announcement.index(f"\n  {title} ") for title in titles]
    assert rows == sorted(rows)
    assert "Runs in float32" in server.announcement


def test_it_says_what_the_offline_api_says(client: openai.OpenAI, model: Path) -> None:
    asked = {"max_tokens": 20, "temperature": 0.8, "seed": 3}
    answer = client.completions.create(model="real", prompt=PROMPTS, **asked, extra_body={"ignore_eos": True})
    with LLM(model, dtype="float32", kv_cache_memory="16MiB", threads=1) as llm:
        results = llm.generate(PROMPTS, SamplingParams(**asked, ignore_eos=True), use_tqdm=False)
    assert [choice.text for choice in answer.choices] == [result.outputs[0].text for result in results]


def test_completion_logprobs(client: openai.OpenAI) -> None:
    asked = {"model": "real", "prompt": "hello", "max_tokens": 6, "temperature": 0, "logprobs": 2}
    (choice,) = client.completions.create(**asked, extra_body={"ignore_eos": True}).choices
    report = choice.logprobs
    assert len(report.tokens) == len(report.token_logprobs) == len(report.top_logprobs) == len(report.text_offset) == 6
    for token, value, top in zip(report.tokens, report.token_logprobs, report.top_logprobs, strict=True):
        assert value == top[token] == max(top.values()) <= 0
        assert len(top) == 2
    assert report.text_offset[0] == 0
    streamed = []
    for chunk in client.completions.create(**asked, stream=True, extra_body={"ignore_eos": True}):
        streamed += chunk.choices[0].logprobs.text_offset if chunk.choices[0].logprobs else []
    assert streamed == report.text_offset


def test_chat_logprobs(client: openai.OpenAI) -> None:
    asked = {"model": "real", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "temperature": 0}
    plain = client.chat.completions.create(**asked, extra_body={"ignore_eos": True})
    assert plain.choices[0].logprobs is None
    asked |= {"logprobs": True, "top_logprobs": 4}
    (choice,) = client.chat.completions.create(**asked, extra_body={"ignore_eos": True}).choices
    assert choice.message.content == plain.choices[0].message.content
    assert len(choice.logprobs.content) == 5
    for token in choice.logprobs.content:
        assert token.top_logprobs[0].token == token.token
        assert token.top_logprobs[0].logprob == token.logprob
        assert len(token.top_logprobs) == 4
    spelled = bytes(byte for token in choice.logprobs.content for byte in token.bytes)
    assert spelled.decode("utf-8", "replace") == choice.message.content


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_leaves_frees_its_requests(server: Server, streams: bool) -> None:
    aborted = 'infergc_requests_finished_total{reason="abort"}'
    before, many = server.metrics()[aborted], 16  # a batch that takes long, whatever holds the test up
    body = {"prompt": ["hello"] * many, "max_tokens": 3000, "ignore_eos": True, "stream": streams}
    with post_and_leave(server, "/v1/completions", body):
        wait_for(lambda: server.requests("running"))
        assert server.pages("live") > 0
    server.wait_until_idle()
    assert server.metrics()[aborted] == before + many


def test_an_unsupported_model_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes().replace(b'"LlamaForCausalLM"', b'"GPTJForCausalLM"'))
    result = CliRunner().invoke(main, ["generate", "hello", "--model", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: [^\n]*GPTJForCausalLM[^\n]*LlamaForCausalLM[^\n]*\n", result.stderr)


def test_the_bundled_model_is_served_by_default() -> None:
    if demo_model(ROOT) is None:
        pytest.skip("models/demo is not there")
    code, out, _ = infergc_result("generate", "It was a dark night, and", "--max-tokens", "12", "--temperature", "0")
    assert code == 0
    assert len(out.split()) > 4


def test_the_ledger_and_what_the_process_holds_are_in_the_metrics(server: Server) -> None:
    metrics = server.metrics()
    ledger = {holder: metrics[f'infergc_memory_bytes{{holder="{holder}"}}'] for holder in HOLDERS}
    assert all(ledger.values())
    held = metrics["infergc_process_resident_memory_bytes"]
    assert ledger["runtime"] < held <= metrics["infergc_process_peak_memory_bytes"] < 1.05 * sum(ledger.values())
    assert metrics["infergc_kv_committed_memory_bytes"] <= ledger["kv"]
