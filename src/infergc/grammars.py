"""Grammars as llguidance takes them: what a request's structured outputs say, in its words and within its limits."""

import json

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from infergc.structured_outputs import StructuredOutputs

_MAX_SAID = 500  # characters of what llguidance says: it repeats the grammar
# Between two parts of JSON: a blank, or a line end and an indentation. With any number of line ends, as JSON allows, a
# model that has begun with them may go on until its tokens are spent.
_BLANKS = r" |\r?\n[ \t]{0,40}"
_ANY_OBJECT = '{"type": "object"}'


class GrammarError(ValueError):
    """A grammar is none, asks for what llguidance does not know, or takes more than its limits: in its own words."""


def matcher(tokenizer: LLTokenizer, outputs: StructuredOutputs) -> LLMatcher:
    """A matcher at the beginning of a text. Other threads of Python run meanwhile.

    Cost: about a millisecond for a schema of a few fields, 0.1 s for one of a thousand. The limits do not bound it: a
    schema of 1 KB may take hours, see ``text.grammar_process``. Copies (``deep_copy``) cost microseconds.

    Raises:
        GrammarError: there is none.
    """
    try:
        made = LLMatcher(tokenizer, _source(outputs), log_level=0, limits=_limits())
    except ValueError as error:  # text that is no JSON
        raise GrammarError(str(error)) from None
    if made.is_error():
        raise GrammarError(error_of(made))
    return made


def error_of(matched: LLMatcher) -> str:
    """Why a matcher cannot go on, in at most 500 characters; "" if it can."""
    return matched.get_error().removesuffix("<non-verbose/>").strip()[:_MAX_SAID]


def _limits() -> LLParserLimits:
    """Of one matcher.

    50,000 states are about 100 MB. The fuel is a tenth of the library's: enough for a schema of a thousand fields,
    while 1500 alternatives took 0.4 s to read and 0.7 s at every token. Errors do not repeat texts and grammars.
    """
    return LLParserLimits(max_lexer_states=50_000, initial_lexer_fuel=100_000, verbose_errors=False)


def _source(outputs: StructuredOutputs) -> str:
    if outputs.regex is not None:
        return LLMatcher.grammar_from_regex(outputs.regex)
    if outputs.grammar is not None:
        return LLMatcher.grammar_from_lark(outputs.grammar)
    if outputs.choice is not None:
        strings = " | ".join(map(json.dumps, outputs.choice))  # Lark writes strings as JSON does
        return LLMatcher.grammar_from_lark(f"start: {strings}")
    return _schema_source(_ANY_OBJECT if outputs.json_object else str(outputs.json))


def _schema_source(schema: str) -> str:
    # With defaults the schema is read and written anew: text that is not one JSON value gets no further than here.
    return LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_pattern": _BLANKS})
