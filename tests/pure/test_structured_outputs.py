"""Structured outputs as plain data, on the wire, and whether what they say is a grammar."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infergc.engine.messages import Command, Submit
from infergc.params import ParameterError, SamplingParams, StructuredOutputs
from infergc.structured_outputs import MAX_GRAMMAR
from infergc.text.grammar import GrammarCheck

SCHEMA = {"type": "object", "properties": {"ü": {"type": "string"}}, "required": ["ü"]}
KINDS = [
    {"json": json.dumps(SCHEMA)},
    {"regex": "[a-z]+"},
    {"choice": ("yes", 'a "quote"\n😀\x7f')},
    {"grammar": 'start: "a" | %json {"type": "integer"}'},
    {"json_object": True},
]
NONE = [  # what is given, the field that is named, the words
    ({}, "structured_outputs", "takes exactly one of .*; none given"),
    ({"json": "{}", "regex": "a"}, "structured_outputs", "takes exactly one of .*; json and regex given"),
    ({"json_object": False}, "structured_outputs", "takes exactly one of"),
    ({"structural_tag": "{}"}, "structured_outputs", '"structural_tag" is not supported'),
    ("json", "structured_outputs", 'takes an object, not "json"'),
    ({"regex": 3}, "structured_outputs.regex", "takes a string, not 3"),
    ({"json_object": 1}, "structured_outputs.json_object", "takes true or false, not 1"),
    ({"json": {"enum": [{1}]}}, "structured_outputs.json", "is no JSON"),
    ({"json": {"minimum": float("nan")}}, "structured_outputs.json", "is no JSON"),
    ({"choice": []}, "structured_outputs.choice", "takes 1 to 1024 strings"),
    ({"choice": "yes"}, "structured_outputs.choice", "takes a list of strings"),
    ({"choice": ["a", ""]}, "structured_outputs.choice", "none of them empty"),
    ({"choice": ["a"] * 1025}, "structured_outputs.choice", "takes 1 to 1024 strings"),
    ({"choice": ["a" * MAX_GRAMMAR, "b"]}, "structured_outputs.choice", "65537 characters .* at most 65536"),
    ({"regex": "a" * (MAX_GRAMMAR + 1)}, "structured_outputs.regex", "65537 characters .* at most 65536"),
    ({"json": json.dumps({"title": "a" * MAX_GRAMMAR})}, "structured_outputs.json", "at most 65536"),
    ({"grammar": "start: \ud800"}, "structured_outputs.grammar", "half a surrogate pair"),
]
NO_GRAMMAR = [
    ({"json": "{"}, "json", "EOF|object"),
    ({"json": '{}}, {"lark_grammar": "start: /.*/"'}, "json", "trailing"),
    ({"json": []}, "json", "Expecting object schema"),
    ({"json": {"type": "thing"}}, "json", "Invalid type: thing"),
    ({"json": {"type": "array", "uniqueItems": True}}, "json", "uniqueItems"),
    ({"json": {"type": "string", "pattern": "("}}, "json", "unclosed group"),
    ({"json": {"$ref": "#/$defs/missing"}}, "json", "does not exist"),
    ({"json": {"$ref": "https://example.com/schema"}}, "json", "does not fetch"),
    ({"json": {"type": "integer", "minimum": 5, "maximum": 1}}, "json", "Unsatisfiable"),
    ({"json": '{"items":' * 2000 + "{}" + "}" * 2000}, "json", "recursion"),
    ({"regex": "a("}, "regex", "unclosed group"),
    ({"grammar": "start: missing"}, "grammar", "unknown name"),
    ({"grammar": ""}, "grammar", "Empty grammar"),
    ({"json": {"anyOf": [{"properties": {f"k{i}": {}}} for i in range(1500)]}}, "json", "too big"),
]


@pytest.mark.parametrize("given", KINDS, ids=str)
def test_each_kind_travels_as_it_is_and_is_a_grammar(given):
    params = SamplingParams(structured_outputs=given, seed=1)
    assert params.structured_outputs == StructuredOutputs(**given)
    sent = Submit("a", [1], params)
    received = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=Command)
    assert received.params == params
    assert hash(received.params.structured_outputs) == hash(params.structured_outputs)
    GrammarCheck().check(params.structured_outputs)


def test_a_schema_may_be_an_object():
    assert json.loads(StructuredOutputs(json=SCHEMA).json) == SCHEMA


@pytest.mark.parametrize(("given", "field", "words"), NONE, ids=lambda value: str(value)[:40])
def test_what_says_nothing_or_too_much_is_refused(given, field, words):
    with pytest.raises(ParameterError, match=words) as caught:
        SamplingParams(structured_outputs=given)
    assert caught.value.field == field


@pytest.mark.parametrize("other", [{"use_beam_search": True}, {"min_tokens": 1}, {"ignore_eos": True}])
def test_the_grammar_says_when_the_text_ends(other):
    (field,) = other
    with pytest.raises(ParameterError, match=f"^{field}: cannot be combined with structured_outputs"):
        SamplingParams(structured_outputs={"regex": "a"}, **other)


@pytest.mark.parametrize(("given", "field", "words"), NO_GRAMMAR, ids=lambda value: str(value)[:40])
def test_what_is_no_grammar_is_refused_in_few_words(given, field, words):
    check, outputs = GrammarCheck(), StructuredOutputs(**given)
    with pytest.raises(ParameterError, match=words) as caught:
        check.check(outputs)
    assert caught.value.field == f"structured_outputs.{field}"
    assert len(str(caught.value)) < 600
    assert not check.knows(outputs)


def test_some_grammars_are_remembered():
    check = GrammarCheck()
    many = [StructuredOutputs(choice=(str(number),)) for number in range(100)]
    for one in many:
        check.check(one)
    assert check.knows(many[-1])
    assert not check.knows(many[0])


@given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4))
@settings(max_examples=50)
def test_any_strings_can_be_chosen_from(strings):
    GrammarCheck().check(StructuredOutputs(choice=tuple(strings)))
