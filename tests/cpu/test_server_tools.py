"""Calls of functions that must come: a real model held to them by grammar, asked by the real openai client.

The model is random, so what it calls means nothing; but that it calls, and with what, is as with any other.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from cpu.served import make_served
from infergc import LLM, SamplingParams, StructuredOutputs
from infergc.text.tokenizer import Tokenizer
from infergc.text.tools.formats import ToolFormat, find_format
from infergc.text.tools.lark import literal
from samples import tokenizer_dirs
from samples.servers import Server, serving
from samples.tool_templates import MISTRAL

FLAGS = ("--dtype", "float32", "--kv-cache-memory", "16MiB", "--threads", "1", "--served-model-name", "real")
USER = {"role": "user", "content": "the quick brown fox"}


class Weather(BaseModel):
    """How warm it will be."""

    model_config = ConfigDict(extra="forbid")

    unit: Literal["°C", "°F"]
    days: list[Literal[1, 2, 3]] = Field(max_length=2)


class Now(BaseModel):
    """What time it is."""

    model_config = ConfigDict(extra="forbid")

    zone: Literal["here", "there"]


FUNCTIONS: dict[str, type[BaseModel]] = {"Weather": Weather, "Now": Now}
TOOLS = [openai.pydantic_function_tool(function) for function in FUNCTIONS.values()]
ASKED: dict[str, Any] = {"model": "real", "messages": [USER], "tools": TOOLS, "max_tokens": 200, "seed": 9}
ONE = {"tool_choice": "required", "parallel_tool_calls": False}
BRACKET = tokenizer_dirs.build("byte-level").token_to_id("]")
FEW = {"tool_choice": "required", "logit_bias": {str(BRACKET): 1.5}}  # else this model goes on and on


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has a special token for Mistral's mark, as those models do."""
    directory = make_served(tmp_path_factory.mktemp("served"))
    tokenizer_dirs.save("byte-level", directory, chat_template=MISTRAL)
    spelled = directory / "tokenizer.json"
    spelled.write_text(spelled.read_text().replace(tokenizer_dirs.TURN, "[TOOL_CALLS]"))
    return directory


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model, *FLAGS) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def check(calls: list[Any]) -> None:
    """Each call is of a function that there is, with arguments that it takes."""
    assert calls
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.type == "function"
        assert len(call.id) == 9
        assert call.id.isalnum()
        FUNCTIONS[call.function.name].model_validate_json(call.function.arguments)


def plain(calls: list[Any]) -> list[tuple[str, str]]:
    return [(call.function.name, call.function.arguments) for call in calls]


def test_a_call_that_is_required(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**ASKED, **ONE, n=3, logprobs=True)
    for choice in answer.choices:
        check(choice.message.tool_calls)
        assert len(choice.message.tool_calls) == 1
        assert choice.message.content is None
        assert choice.finish_reason == "tool_calls"
        assert choice.logprobs.content[0].token == "[TOOL_CALLS]"
    tokens = sum(len(choice.logprobs.content) for choice in answer.choices)
    assert answer.usage.completion_tokens == tokens
    assert len({plain(choice.message.tool_calls)[0] for choice in answer.choices}) > 1


def test_a_function_that_is_named(client: openai.OpenAI) -> None:
    for name in FUNCTIONS:
        chosen = {"type": "function", "function": {"name": name}}
        (choice,) = client.chat.completions.create(**{**ASKED, **FEW, "tool_choice": chosen}).choices
        check(choice.message.tool_calls)
        assert {call.function.name for call in choice.message.tool_calls} == {name}


@pytest.mark.parametrize("asked", [ONE, FEW], ids=["one", "several"])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, asked: dict[str, Any]) -> None:
    whole = client.chat.completions.create(**ASKED, **asked, n=2)
    with client.chat.completions.stream(**ASKED, **asked, n=2, stream_options={"include_usage": True}) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    for streamed, choice in zip(final.choices, whole.choices, strict=True):
        check(streamed.message.tool_calls)
        assert plain(streamed.message.tool_calls) == plain(choice.message.tool_calls)
        assert streamed.message.content is None
        assert streamed.finish_reason == choice.finish_reason == "tool_calls"
        for call in streamed.message.tool_calls:
            assert isinstance(call.function.parsed_arguments, FUNCTIONS[call.function.name])
    counts = [len(choice.message.tool_calls) for choice in final.choices]
    assert (max(counts) > 1) == (asked is FEW)
    assert len(done) == sum(counts)
    assert final.usage == whole.usage


def test_arguments_come_in_pieces_after_the_name(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASKED, **ONE, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert all(delta.index == 0 for delta in deltas)
    assert deltas[0].function.name in FUNCTIONS
    assert deltas[0].id
    assert len(deltas) > 2
    assert all(delta.function.name is None and delta.id is None for delta in deltas[1:])
    assert json.loads("".join(delta.function.arguments for delta in deltas))
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_what_a_function_gave_goes_back(client: openai.OpenAI, server: Server) -> None:
    message = client.chat.completions.parse(**ASKED, **ONE).choices[0].message
    (call,) = message.tool_calls
    assert isinstance(call.function.parsed_arguments, FUNCTIONS[call.function.name])
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    conversation = {**ASKED, "messages": [USER, message, result], "max_tokens": 4}
    answer = client.chat.completions.create(**conversation)
    shown = [USER, message.model_dump(exclude_none=True), result]
    body = {"model": "real", "messages": shown, "tools": TOOLS}
    tokens = server.http.post("/tokenize", json=body).json()["tokens"]
    assert answer.usage.prompt_tokens == len(tokens)
    text = server.http.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert f'"id": "{call.id}"' in text
    assert '{"content": "sunny"' in text


def test_a_call_cut_short_says_so(client: openai.OpenAI) -> None:
    (choice,) = client.chat.completions.create(**{**ASKED, "max_tokens": 8}, **ONE).choices
    assert choice.finish_reason == "length"


def function(**schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object", **schema}}}


REFUSED = [
    (
        {"tools": [function(properties={"a": {"type": "number of"}})], "tool_choice": "required"},
        "tools[0].function.parameters",
    ),
    ({"tools": [function(description="x" * 70_000)], "tool_choice": "required"}, "tools"),
    ({"tool_choice": "auto", "response_format": {"type": "json_object"}}, "tools"),
    ({"tool_choice": "required", "extra_body": {"ignore_eos": True}}, "ignore_eos"),
]


@pytest.mark.parametrize(("asked", "param"), REFUSED, ids=["type", "size", "format", "end"])
def test_what_cannot_be_is_refused_by_name(client: openai.OpenAI, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{**ASKED, **asked})
    assert refused.value.param == param, refused.value.message


SCHEMAS = {name: function.model_json_schema() for name, function in FUNCTIONS.items()}


def test_every_formats_grammar_gives_calls_that_its_parser_reads(model: Path) -> None:
    mark = Tokenizer.load(model).token_id("[TOOL_CALLS]")
    cases = [
        (find_format(flag, template), several)
        for flag, template in (("hermes", ""), ("llama3_json", ""), ("mistral", ""), ("mistral", "[ARGS]"))
        for several in (False, True)
    ]

    def params(found: ToolFormat, several: bool) -> SamplingParams:
        spell = {"[TOOL_CALLS]": f"<[{mark}]>"}
        text = found.grammar(SCHEMAS, lambda each: spell.get(each, literal(each)), several=several)
        outputs = StructuredOutputs(grammar=text)
        return SamplingParams(max_tokens=1000, seed=3, skip_special_tokens=False, structured_outputs=outputs)

    with LLM(model, dtype="float32", kv_cache_memory="16MiB", threads=1) as llm:
        results = llm.generate(["the fox"] * len(cases), [params(*case) for case in cases], use_tqdm=False)
    for (found, several), result in zip(cases, results, strict=True):
        (output,) = result.outputs
        news = found.parser(SCHEMAS).push(output.text, last=True)
        assert output.finish_reason == "stop"
        assert news.content == "", output.text
        assert len(news.calls) == 1 or (several and news.calls), output.text
        for call in news.calls:
            FUNCTIONS[call.name].model_validate_json(call.arguments)
