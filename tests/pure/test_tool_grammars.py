"""The grammars of calls that must come: the library takes them, whatever a function is called and takes."""

from typing import Any

import pytest

from infergc.params import ParameterError, StructuredOutputs
from infergc.text.grammar import GrammarCheck
from infergc.text.tools.formats import ToolFormat, find_format
from infergc.text.tools.lark import literal

CHECK = GrammarCheck(vocab_size=400)
TREE = {"type": "object", "properties": {"below": {"type": "array", "items": {"$ref": "#"}}}}
NAMED = {"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"enum": ['"\\\n', "日"]}}, "required": ["a"]}
SCHEMAS: dict[str, dict[str, Any]] = {"no-thing_1": {}, "tree": TREE, "named": NAMED, "start": {"type": "object"}}
FORMATS = [find_format("hermes", ""), find_format("llama3_json", ""), find_format("mistral", ""),
           find_format("mistral", "[ARGS]")]  # fmt: skip


def check(found: ToolFormat, schemas: dict[str, dict[str, Any]], mark: int | None = None) -> None:
    def spell(text: str) -> str:
        return literal(text) if mark is None else f"<[{mark}]>"

    for several in (False, True):
        CHECK.check(StructuredOutputs(grammar=found.grammar(schemas, spell, several=several)))


@pytest.mark.parametrize("found", FORMATS, ids=lambda found: found.name)
@pytest.mark.parametrize("mark", [None, 399])
def test_it_is_a_grammar(found: ToolFormat, mark: int | None) -> None:
    check(found, SCHEMAS, mark)
    for name, schema in SCHEMAS.items():
        check(found, {name: schema}, mark)


def test_a_mark_is_a_token_that_the_model_has() -> None:
    with pytest.raises(ParameterError, match="400"):
        check(FORMATS[0], SCHEMAS, 400)


@pytest.mark.parametrize("unknown", [{"not": {}}, {"properties": {"a": {"type": "integral"}}}])
def test_a_schema_that_cannot_be_kept_to_is_refused(unknown: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="not supported"):
        check(FORMATS[0], {"f": unknown})
