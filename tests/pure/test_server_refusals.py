"""Bad input of every kind gets an error in the OpenAI API's shape, and the server goes on unharmed."""

import json
import socket
from collections.abc import Iterator
from gzip import compress
from typing import Any

import openai
import pytest

from infergc.server.entrance.token_limit import MOST_TOKENISING
from samples import served_model, slow_sim
from samples.servers import PATIENCE, Server, serving, wait_for

GOOD = {"prompt": "hello", "max_tokens": 3, "seed": 1}
JSON = {"content-type": "application/json"}
USER = [{"role": "user", "content": "hello"}]
MIB = 1024**2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = served_model.save(tmp_path_factory.mktemp("served") / "tiny")
    with serving(model, "--executor", slow_sim.NAME, "--max-body-size", "2MiB") as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    yield
    answer = server.http.post("/v1/completions", json=GOOD)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 3
    server.wait_until_idle()


def error(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    return body["error"]


SEARCH = {"use_beam_search": True, "beam_width": 4}
BAD_COMPLETIONS = [
    ({"prompt": None}, "prompt", "invalid_type"),
    ({"prompt": ""}, "prompt", "invalid_value"),
    ({"prompt": []}, "prompt", "invalid_value"),
    ({"prompt": ["a", ""]}, "prompt", "invalid_value"),
    ({"prompt": [[]]}, "prompt", "invalid_value"),
    ({"prompt": ["a", [1]]}, "prompt", "invalid_type"),
    ({"prompt": [1, 2.5]}, "prompt", "invalid_type"),
    ({"prompt": [True]}, "prompt", "invalid_type"),
    ({"prompt": {"text": "a"}}, "prompt", "invalid_type"),
    ({"prompt": ["a"] * 3000}, "prompt", "invalid_value"),
    ({"prompt": [5, 10**6]}, "prompt", "invalid_value"),
    ({"prompt": [-1]}, "prompt", "invalid_value"),
    ({"prompt": [5] * served_model.CONTEXT}, "prompt", "context_length_exceeded"),
    ({"prompt": "hello " * 100_000}, "prompt", "context_length_exceeded"),
    ({"prompt": [5], "max_tokens": served_model.CONTEXT}, "max_tokens", "context_length_exceeded"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": "many"}, "max_tokens", "invalid_type"),
    ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
    ({"max_tokens": True}, "max_tokens", "invalid_type"),
    ({"min_tokens": 4}, "min_tokens", "invalid_value"),
    ({"temperature": -0.1}, "temperature", "invalid_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"top_p": 0}, "top_p", "invalid_value"),
    ({"top_p": 1.1}, "top_p", "invalid_value"),
    ({"top_k": -2}, "top_k", "invalid_value"),
    ({"min_p": 2}, "min_p", "invalid_value"),
    ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
    ({"frequency_penalty": -3}, "frequency_penalty", "invalid_value"),
    ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
    ({"repetition_penalty": 1e300}, "repetition_penalty", "invalid_value"),
    ({"seed": -1}, "seed", "invalid_value"),
    ({"seed": 2**63}, "seed", "invalid_value"),
    ({"seed": 10**400}, "seed", "invalid_value"),
    ({"logprobs": 21}, "logprobs", "invalid_value"),
    ({"logprobs": True}, "logprobs", "invalid_type"),
    ({"stop": ["x"] * 17}, "stop", "invalid_value"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"stop": [1]}, "stop[0]", "invalid_type"),
    ({"stop": "\ud800"}, "stop", "invalid_value"),
    ({"cache_salt": "\ud800"}, "cache_salt", "invalid_value"),
    ({"cache_salt": "a" * 2000}, "cache_salt", "invalid_value"),
    ({"stop_token_ids": [10**6]}, "stop_token_ids", "invalid_value"),
    ({"stop_token_ids": "x"}, "stop_token_ids", "invalid_type"),
    ({"logit_bias": {"a": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"\ud800": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"5": 10**400}}, "logit_bias", "invalid_type"),
    ({"temperature": 10**400}, "temperature", "invalid_type"),
    ({"max_tokens": 10**4000}, "max_tokens", "invalid_value"),
    ({"logit_bias": {"5": 101}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"1000000": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": [5]}, "logit_bias", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "unknown_parameter"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 65}, "n", "invalid_value"),
    ({"n": True}, "n", "invalid_type"),
    ({"best_of": 3}, "best_of", "invalid_value"),
    ({"best_of": 1, "n": 2}, "best_of", "invalid_value"),
    ({"logit_bias": {"5": None}}, "logit_bias", "invalid_type"),
    ({"stop": [1] * 500_000}, "stop[0]", "invalid_type"),
    ({"stop_token_ids": [""] * 500_000}, "stop_token_ids[0]", "invalid_type"),
    ({"echo": 1}, "echo", "invalid_type"),
    ({"echo": True, "max_tokens": -1}, "max_tokens", "invalid_value"),
    ({"echo": False, "max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"echo": True, "logprobs": 21}, "logprobs", "invalid_value"),
    ({"prompt_logprobs": 21}, "prompt_logprobs", "invalid_value"),
    ({"prompt_logprobs": -1, "echo": True, "logprobs": 1}, "prompt_logprobs", "invalid_value"),
    ({"prompt_logprobs": True}, "prompt_logprobs", "invalid_type"),
    ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs", "invalid_value"),
    ({**SEARCH, "prompt_logprobs": 1}, "prompt_logprobs", "invalid_value"),
    ({"suffix": "end"}, "suffix", "unsupported_parameter"),
    ({"use_beam_search": 1}, "use_beam_search", "invalid_type"),
    ({"beam_width": 3}, "beam_width", "invalid_value"),
    ({"length_penalty": 2.0}, "length_penalty", "invalid_value"),
    ({"early_stopping": "never"}, "early_stopping", "invalid_value"),
    ({**SEARCH, "early_stopping": "soon"}, "early_stopping", "invalid_value"),
    ({**SEARCH, "length_penalty": 5.1}, "length_penalty", "invalid_value"),
    ({**SEARCH, "n": 5}, "n", "invalid_value"),
    ({**SEARCH, "beam_width": 65}, "beam_width", "invalid_value"),
    ({**SEARCH, "temperature": 0.5}, "temperature", "invalid_value"),
    ({**SEARCH, "stop": "a"}, "stop", "invalid_value"),
    ({**SEARCH, "logprobs": 1}, "logprobs", "invalid_value"),
    ({**SEARCH, "frequency_penalty": 1.0}, "frequency_penalty", "invalid_value"),
    ({**SEARCH, "logit_bias": {"5": 1.0}}, "logit_bias", "invalid_value"),
    ({"response_format": {"type": "structural_tag"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "regex", "pattern": "("}}, "response_format.pattern", "invalid_value"),
    ({"response_format": {"type": "regex"}}, "response_format.pattern", "invalid_value"),
    ({"structured_outputs": {}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"json": {"type": "thing"}}}, "structured_outputs.json", "invalid_value"),
    ({"structured_outputs": {"json": {"type": "array", "uniqueItems": True}}}, "structured_outputs.json",
     "invalid_value"),
    ({"structured_outputs": {"json": "\ud800"}}, "structured_outputs.json", "invalid_value"),
    ({"structured_outputs": {"regex": "a" * 70_000}}, "structured_outputs.regex", "invalid_value"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"choice": "a"}}, "structured_outputs.choice", "invalid_type"),
    ({"structured_outputs": {"grammar": "start: b"}}, "structured_outputs.grammar", "invalid_value"),
    ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag", "unsupported_parameter"),
    ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs",
     "invalid_value"),
    ({"structured_outputs": {"regex": "a"}, "min_tokens": 2}, "min_tokens", "invalid_value"),
    ({"structured_outputs": {"regex": "a"}, "ignore_eos": True}, "ignore_eos", "invalid_value"),
    ({"structured_outputs": {"regex": "a"}, **SEARCH}, "use_beam_search", "invalid_value"),
    ({"priority": 3}, "priority", "invalid_value"),
    ({"max_token": 3}, "max_token", "unknown_parameter"),
    ({"max-tokens": 3}, "max-tokens", "unknown_parameter"),
    ({"": 3}, '""', "unknown_parameter"),
    ({"a\nb": 3}, '"a\\nb"', "unknown_parameter"),
    ({"messages": USER}, "messages", "unknown_parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "code"), BAD_COMPLETIONS, ids=lambda value: str(value)[:40])
def test_a_bad_field_is_named(server: Server, fields: dict[str, Any], param: str, code: str) -> None:
    body = json.dumps({**GOOD, **fields})  # in ASCII: only escaped can half a surrogate pair be sent
    problem = error(server.http.post("/v1/completions", content=body, headers=JSON), 400)
    assert (problem["param"], problem["code"]) == (param, code), problem["message"]
    assert problem["message"].startswith(param)


MESSAGES = [
    ({"prompt": ""}, "prompt: must not be empty"),
    ({"max_tokens": "ten"}, 'max_tokens: takes an integer, not "ten"'),
    (
        {"max_tokens": 5000},
        "max_tokens: 5000 is too many; this model's maximum context length is 1024 ",
    ),
    ({"temperature": []}, "temperature: takes a number, not []"),
    ({"stream": 1}, "stream: takes true or false, not 1"),
    ({"stop": 5}, "stop: takes a string or a list of strings, not 5"),
    ({"stop": [None]}, "stop[0]: takes a string, not null"),
    ({"stop": [""]}, "stop: a stop string must not be empty"),
    ({"stop": ["x"] * 17}, "stop: 17 are given; at most 16 are allowed"),
    ({"stop_token_ids": {"a": 1}}, 'stop_token_ids: takes a list, not {"a": 1}'),
    ({"logit_bias": [5]}, 'logit_bias: takes token ids and numbers, as in {"50256": -100}, not [5]'),
    ({"logit_bias": {"5": None}}, 'logit_bias: of token "5" is null; it must be a number from -100 to 100'),
    ({"best_of": 2}, "best_of: 2 is not n (1): all texts that are generated are told; leave it out"),
    ({"max_tokens": 0}, "max_tokens: 0 is not allowed; it must be ≥ 1, or 0 with echo"),
    ({"max_tokens": -1, "echo": True}, "max_tokens: -1 is not allowed; it must be ≥ 1, or 0 with echo"),
    ({"n": 65}, "n: 65 is too many; this engine runs at most 64 sequences at a time (--max-num-seqs)"),
    (
        {"response_format": {"type": "json"}},
        'response_format.type: "json" is not one of "text", "json_object", "json_schema" or "regex"',
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "shema": {}}}},
        "response_format.json_schema.schema: is required (shema is not a field)",
    ),
    (
        {"response_format": {"type": "json_object"}, "min_tokens": 2},
        "min_tokens: cannot be combined with response_format, whose grammar says when the text ends",
    ),
    ({**SEARCH, "stop": "a"}, "stop: cannot be combined with use_beam_search; leave it out"),
    ({"beam_width": 3}, "beam_width: is only allowed with use_beam_search"),
    ({**SEARCH, "early_stopping": 3}, 'early_stopping: takes true, false or "never", not 3'),
    ({"stream_options": "all"}, 'stream_options: takes an object, not "all"'),
    ({"suffix": "end"}, 'suffix: is not supported yet; leave it out (or send null or "")'),
]


@pytest.mark.parametrize(("fields", "message"), MESSAGES, ids=lambda value: str(value)[:40])
def test_messages_say_what_is_taken(server: Server, fields: dict[str, Any], message: str) -> None:
    problem = error(server.http.post("/v1/completions", json={**GOOD, **fields}), 400)
    assert problem["message"].startswith(message)


BAD_CHATS = [
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": "hello"}, "messages", "invalid_type"),
    ({"messages": [{"content": "a"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "missing_required_parameter"),
    ({"messages": [{"role": "critic", "content": "a"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_type"),
    ({"messages": [*USER, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages[1].content", "unsupported_parameter"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "messages", "invalid_value"),
    ({"messages": [{"role": "user", "content": "hello " * 2000}]}, "prompt", "context_length_exceeded"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "invalid_value"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format.json_schema.schema",
     "missing_required_parameter"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}},
     "response_format.json_schema.schema", "invalid_value"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"title": "a" * 70_000}}}},
     "response_format.json_schema.schema", "invalid_value"),
    ({"response_format": {"type": "json_object", "json_schema": {"schema": {}}}}, "response_format.json_schema",
     "invalid_value"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"logprobs": 3}, "logprobs", "invalid_type"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens", "invalid_value"),
    ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
    ({"prompt": "hello"}, "prompt", "unknown_parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "code"), BAD_CHATS, ids=lambda value: str(value)[:40])
def test_a_bad_chat_field_is_named(server: Server, fields: dict[str, Any], param: str, code: str) -> None:
    problem = error(server.http.post("/v1/chat/completions", json={"messages": USER, **fields}), 400)
    assert (problem["param"], problem["code"]) == (param, code), problem["message"]


HARMLESS = {
    "n": 1, "best_of": 1, "user": "me", "metadata": {"a": "b"}, "response_format": {"type": "text"}, "stop": None,
    "logprobs": None, "temperature": None, "logit_bias": None, "seed": None, "stream_options": None,
    "repetition_penalty": 1.0, "use_beam_search": False, "structured_outputs": None,
}  # fmt: skip


def test_what_changes_nothing_is_accepted(server: Server) -> None:
    chat = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "store": False, "service_tier": "auto"}
    for path, body in (
        ("/v1/completions", {**GOOD, **HARMLESS, "suffix": None, "echo": False, "add_special_tokens": None}),
        ("/v1/completions", {**GOOD, "n": 2, "best_of": 2}),
        ("/v1/completions", {**GOOD, "stream": True, "stream_options": {"include_usage": None}}),
        (
            "/v1/chat/completions",
            {"messages": USER, "max_tokens": 2, **HARMLESS, **chat, "add_generation_prompt": None},
        ),
    ):
        answer = server.http.post(path, json=body)
        assert answer.status_code == 200, answer.text


def test_a_prompt_is_required(server: Server) -> None:
    assert error(server.http.post("/v1/completions", json={}), 400)["param"] == "prompt"
    misspelt = error(server.http.post("/v1/completions", json={"promt": "x"}), 400)
    assert (misspelt["param"], misspelt["code"]) == ("prompt", "missing_required_parameter")
    assert misspelt["message"] == "prompt: is required (promt is not a field)"
    assert error(server.http.post("/v1/chat/completions", json={}), 400)["param"] == "messages"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
def test_another_model_is_not_found(server: Server, path: str) -> None:
    body = {"prompt": "a"} if path != "/v1/chat/completions" else {"messages": USER}
    problem = error(server.http.post(path, json={**body, "model": "gpt-4"}), 404)
    assert (problem["param"], problem["code"]) == ("model", "model_not_found")
    assert problem["message"] == 'model: "gpt-4" is not served here; "tiny" is'


NOT_JSON = [
    b"", b"hello", b"{", b'{"prompt": "a",}', b'{"prompt": "a"', b"[1, 2]", b'"text"', b"null", b"\xff\xfe\x00",
    b"[" * 100_000, b'{"prompt": ' + b'{"a":' * 50_000, b'{"prompt": "\\ud800"}', b'{"\\ud800": 3}',
    b'{"prompt": "a", "temperature": NaN}',
    b'{"prompt": "a", "seed": ' + b"9" * 10_000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: str(body[:30]))
def test_what_is_not_json_is_refused(server: Server, body: bytes) -> None:
    assert error(server.http.post("/v1/completions", content=body, headers=JSON), 400)["message"]


def test_where_json_is_broken_is_told(server: Server) -> None:
    problem = error(server.http.post("/v1/completions", content=b'{"prompt": "a",}', headers=JSON), 400)
    assert problem["code"] == "invalid_json"
    assert problem["message"].startswith("the body is not valid JSON: ")
    assert problem["message"].endswith((" at character 16", " at character 15")), "newer Pythons say where the comma is"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"])
def test_an_empty_body_is_called_that(server: Server, path: str) -> None:
    problem = error(server.http.post(path), 400)
    assert problem["message"] == "the body is empty; send a JSON object as application/json"
    assert problem["param"] is None


def test_a_prompt_that_cannot_fit_is_refused_by_its_size(server: Server) -> None:
    text = "hello " * 100_000
    for path, body in (
        ("/v1/completions", {"prompt": ["a", text]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
    ):
        problem = error(server.http.post(path, json=body), 400)
        assert problem["message"].startswith("prompt: is at least "), "it was tokenised to its end"
    assert server.http.post("/tokenize", json={"prompt": text}).json()["count"] > served_model.CONTEXT


def test_priorities_are_bounded(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = served_model.save(tmp_path_factory.mktemp("priority") / "tiny")
    with serving(model, "--executor", slow_sim.NAME, "--scheduling-policy", "priority") as running:
        problem = error(running.http.post("/v1/completions", json={**GOOD, "priority": 10**24}), 400)
        assert (problem["param"], problem["code"]) == ("priority", "invalid_value")
        assert running.http.post("/v1/completions", json={**GOOD, "priority": -5}).status_code == 200


def test_a_content_length_of_5000_digits_is_refused(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
        assert raw.recv(1000).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


def test_another_content_type_is_refused(server: Server) -> None:
    body = json.dumps(GOOD).encode()
    problem = error(server.http.post("/v1/completions", content=body, headers={"content-type": "text/plain"}), 400)
    assert problem["message"] == "the body was not read; send the header Content-Type: application/json"


def test_a_compressed_body_is_refused_by_name(server: Server) -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    problem = error(
        server.http.post("/v1/completions", content=compress(json.dumps(GOOD).encode()), headers=headers), 415
    )
    assert problem["message"] == 'Content-Encoding: "gzip" is not taken; send the body as it is'


def test_history_as_litellm_sends_it_is_accepted(server: Server) -> None:
    said = {"role": "assistant", "content": "hi", "provider_specific_fields": {"refusal": None}, "tool_calls": None,
            "function_call": None}  # fmt: skip
    answer = server.http.post("/v1/chat/completions", json={"messages": [*USER, said, *USER], "max_tokens": 2})
    assert answer.status_code == 200, answer.text


def test_a_10_mb_body_is_too_large(server: Server) -> None:
    body = json.dumps({"prompt": "a" * (10 * MIB)}).encode()
    problem = error(server.http.post("/v1/completions", content=body, headers=JSON), 413)
    assert "2.0 MiB" in problem["message"]


def test_a_10_mb_body_of_unknown_length_is_too_large(server: Server) -> None:
    pieces = (b"a" * MIB for _ in range(10))  # sent in chunks, with no Content-Length
    error(server.http.post("/v1/completions", content=pieces, headers=JSON), 413)


def test_a_body_just_within_the_limit_is_read(server: Server) -> None:
    body = json.dumps({"prompt": "a", "user": "b" * (2 * MIB - 40)}).encode()
    assert len(body) < 2 * MIB
    answer = server.http.post("/v1/completions", content=body, headers=JSON)
    assert answer.status_code == 200


def test_what_is_not_http_is_refused(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        raw.sendall(b"\x16\x03\x01\x00\xa5 this is no HTTP\r\n\r\n")
        assert b"400" in raw.recv(1000)


def test_paths_and_methods(server: Server) -> None:
    missing = "there is no such path; GET / lists what there is"
    for path in ("/v1/nothing", "/health/", "/v1/sessions", "/v1/completions/"):
        assert error(server.http.get(path), 404)["message"] == missing
    assert error(server.http.post("/v1/completions/", json=GOOD), 404)["message"] == missing, "no redirect"
    for method, path, allowed in (("GET", "/v1/completions", "POST"), ("DELETE", "/v1/models", "GET, HEAD")):
        answer = server.http.request(method, path)
        error(answer, 405)
        assert answer.headers["allow"] == allowed
    error(server.http.get("/v1/models/other"), 404)


def test_a_body_of_too_much_structure_is_refused_before_it_is_read(server: Server) -> None:
    deep = b'{"prompt": "a", "user": ' + b"[" * 200 + b"]" * 200 + b"}"
    wide = b'{"prompt": [' + b",".join([b"[]"] * 500_000) + b"]}"
    keys = b"{" + b",".join(b'"a%d": 1' % at for at in range(100_000)) + b"}"
    for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        for body in (deep, wide, keys):
            assert error(server.http.post(path, content=body, headers=JSON), 400)["code"] == "body_too_complex"


def test_no_more_than_so_many_texts_are_tokenised_at_once(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
    slow = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(MOST_TOKENISING)]
    for connection in slow:
        connection.sendall(head)
    refused = lambda: server.http.post("/tokenize", json={"prompt": "a"}).status_code == 429  # noqa: E731
    wait_for(refused, "those that send their bodies slowly count")
    answer = server.http.post("/detokenize", json={"tokens": [5]})
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert answer.headers["retry-after"] == "1"
    for connection in slow:
        connection.sendall(b'{"prompt": "a"}')
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.close()
    assert server.http.post("/tokenize", json={"prompt": "a"}).status_code == 200


def test_tokens_are_checked(server: Server) -> None:
    assert error(server.http.post("/detokenize", json={"tokens": [10**6]}), 400)["param"] == "tokens"
    assert error(server.http.post("/detokenize", json={"tokens": "a"}), 400)["param"] == "tokens"
    assert error(server.http.post("/tokenize", json={}), 400)["param"] == "prompt"
    assert error(server.http.post("/tokenize", json={"prompt": "a", "content": "b"}), 400)["param"] == "prompt"


def test_the_openai_client_understands_the_errors(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="tiny", prompt="a", temperature=-1)
        assert refused.value.param == "temperature"
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="other", prompt="a")


def test_a_model_without_a_chat_template_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = served_model.save(tmp_path_factory.mktemp("plain") / "plain", chat=False)
    with serving(model, "--executor", slow_sim.NAME) as plain:
        problem = error(plain.http.post("/v1/chat/completions", json={"messages": USER}), 400)
        assert "--chat-template" in problem["message"]
