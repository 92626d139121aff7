"""Tools in requests: how a model is told of them and of what they gave, and what is refused by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samples import served_model, slow_sim, tokenizer_dirs
from samples.servers import Server, serving
from samples.tool_templates import HERMES

USER = {"role": "user", "content": "How warm is it in Zürich?"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "In °C.", "parameters": SCHEMA}}
NOW = {"type": "function", "function": {"name": "now", "strict": True}}
CALL = {"id": "abcdefghi", "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Zürich"}'}}  # fmt: skip
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": [{"type": "text", "text": "21"}]}


def saved(directory: Path, template: str) -> Path:
    served_model.save(directory)
    tokenizer_dirs.save("byte-level", directory, chat_template=template)
    return directory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = saved(tmp_path_factory.mktemp("served") / "tiny", HERMES)
    with serving(model, "--executor", slow_sim.NAME, "--max-model-len", "1024") as running:
        yield running


def rendered(server: Server, **body: Any) -> str:
    """A conversation as the model sees it."""
    answer = server.http.post("/tokenize", json=body)
    assert answer.status_code == 200, answer.text
    return server.http.post("/detokenize", json={"tokens": answer.json()["tokens"]}).json()["prompt"]


def refused(server: Server, path: str = "/v1/chat/completions", **body: Any) -> tuple[str, str, str]:
    answer = server.http.post(path, json={"messages": [USER], "max_tokens": 2, **body})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    return error["param"], error["code"], error["message"]


def test_the_model_is_told_of_the_tools_and_of_what_they_gave(server: Server) -> None:
    text = rendered(server, messages=[USER, CALLED, RESULT], tools=[WEATHER, NOW])
    assert '{"type": "function", "function": {"name": "get_weather", "description": "In °C.", "parameters": ' in text
    assert '"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": false}' in text
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}' in text
    assert "<tool_response>\n21\n</tool_response>" in text
    assert "strict" not in text


def test_a_call_in_text_that_calls_nothing_is_content(server: Server) -> None:
    for choice in ("auto", "none"):
        body = {"messages": [USER], "tools": [WEATHER], "tool_choice": choice, "max_tokens": 8, "seed": 1}
        (answer,) = server.http.post("/v1/chat/completions", json=body).json()["choices"]
        assert answer["message"]["content"]
        assert "tool_calls" not in answer["message"]
        assert answer["finish_reason"] == "length"


def named(name: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


BAD = [
    ({"tools": [{"type": "retrieval"}]}, "tools[0].type", "unsupported_parameter"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"tools": [named("get weather")]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [named("a" * 65)]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [named(3)]}, "tools[0].function.name", "invalid_type"),
    ({"tools": [WEATHER, WEATHER]}, "tools", "invalid_value"),
    ({"tools": [named(f"f{i}") for i in range(129)]}, "tools", "invalid_value"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
     "tools[0].function.parameters", "invalid_value"),
    ({"tools": [{"type": "function", "function": {"name": "f", "returns": "x"}}]},
     "tools[0].function.returns", "unknown_parameter"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tool_choice": named("now")}, "tool_choice", "invalid_value"),
    ({"tools": [WEATHER], "tool_choice": named("now")}, "tool_choice", "invalid_value"),
    ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice", "invalid_value"),
    ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice", "invalid_value"),
    ({"tools": [WEATHER], "parallel_tool_calls": "no"}, "parallel_tool_calls", "invalid_type"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"function_call": {"name": "f"}}, "function_call", "unsupported_parameter"),
    ({"messages": [{"role": "tool", "content": "21"}]}, "messages[0].tool_call_id", "missing_required_parameter"),
    ({"messages": [{**USER, "tool_call_id": "a"}]}, "messages[0].tool_call_id", "invalid_value"),
    ({"messages": [{**USER, "tool_calls": [CALL]}]}, "messages[0].tool_calls", "invalid_value"),
    ({"messages": [{**USER, "name": "Ada"}]}, "messages[0].name", "invalid_value"),
    ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
     "messages[0].tool_calls[0].id", "missing_required_parameter"),
    ({"messages": [{**CALLED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "[1]"}}]}]},
     "messages[0].tool_calls[0].function.arguments", "invalid_value"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "code"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_field_is_named(server: Server, fields: dict[str, Any], param: str, code: str) -> None:
    assert refused(server, **fields)[:2] == (param, code)


@pytest.mark.parametrize("depth", [100, 400])
def test_parameters_nested_too_deeply(server: Server, depth: int) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    deep = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert refused(server, tools=[deep], tool_choice="required")[1] == "body_too_complex"


def function(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_of_several_functions_the_one_is_named_that_cannot_be_kept_to(server: Server) -> None:
    good, bad = function("good", properties={}), function("bad", properties={"a": {"type": "thing"}})
    param, code, message = refused(server, tools=[good, bad], tool_choice="required")
    assert (param, code) == ("tools[1].function.parameters", "invalid_value")
    assert message == "tools[1].function.parameters: is not supported: Invalid type: thing"
    assert refused(server, tools=[bad, good], tool_choice=named("bad"))[0] == "tools[0].function.parameters"


@pytest.mark.parametrize("fields", [{"min_tokens": 2}, {"ignore_eos": True}, {"use_beam_search": True}], ids=str)
def test_what_a_call_that_must_come_does_not_go_with(server: Server, fields: dict[str, Any]) -> None:
    param, _, message = refused(server, tools=[WEATHER], tool_choice="required", **fields)
    assert (param,) == tuple(fields)
    assert "cannot be combined with tool_choice, " in message


def test_tools_belong_to_messages(server: Server) -> None:
    answer = server.http.post("/tokenize", json={"prompt": "a", "tools": [WEATHER]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools"


def test_a_template_that_knows_no_tools(tmp_path: Path) -> None:
    with serving(served_model.save(tmp_path / "tiny"), "--executor", slow_sim.NAME) as plain:
        param, _, message = refused(plain, tools=[WEATHER])
        assert param == "tools"
        assert "--chat-template" in message
    model = saved(tmp_path / "other", "{{ tools }}{{ messages }}")
    with serving(model, "--executor", slow_sim.NAME) as unknown:
        param, _, message = refused(unknown, tools=[WEATHER])
        assert param == "tools"
        assert "--tool-call-parser" in message
        assert "Ada" in rendered(unknown, messages=[USER], tools=[named("Ada")])
