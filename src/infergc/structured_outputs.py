"""Structured outputs: the grammar that a request's text must keep to, as plain data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infergc.field_errors import ParameterError, check_text
from infergc.wording import shown

FIELD = "structured_outputs"
MAX_GRAMMAR = 65_536  # characters of a schema, an expression, a grammar, or of all choices
MAX_STRINGS = 1024  # strings to choose from
_TEXTS = ("json", "regex", "grammar")
_KINDS = (*_TEXTS, "choice", "json_object")


@dataclass(frozen=True, slots=True)
class StructuredOutputs:
    """What a text must look like: exactly one of these; names and meaning as in vLLM's ``StructuredOutputsParams``.

    Whether the grammar is one, ``text.grammar`` says: here only kinds and sizes are checked.

    Attributes:
        json: a JSON schema, as text or as an object, which is kept as text; at most 65536 characters.
        regex: a regular expression in Rust's syntax, for the whole text; at most 65536 characters.
        choice: 1 to 1024 strings, of which the text is one; none empty, at most 65536 characters in all.
        grammar: a grammar in llguidance's dialect of Lark, which may embed schemas as ``%json {…}``; at most 65536
            characters.
        json_object: any JSON object.

    Raises:
        ParameterError: none of them is given or several are, or one is of another kind or too large; it names
            ``structured_outputs`` or ``structured_outputs.<field>``.
    """

    json: str | Mapping[str, Any] | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    json_object: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.json_object, bool):
            raise ParameterError(_name("json_object"), f"takes true or false, not {shown(self.json_object)}")
        given = _given(self)
        if len(given) != 1:
            which = " and ".join(given) or "none"
            raise ParameterError(FIELD, f"takes exactly one of {', '.join(_KINDS)}; {which} given")
        if self.json is not None:
            object.__setattr__(self, "json", _schema_text(self.json))
        if self.choice is not None:
            object.__setattr__(self, "choice", _choices(self.choice))
        if given[0] in _TEXTS:
            _check_grammar(given[0], getattr(self, given[0]))

    @property
    def kind(self) -> str:
        """The name of the field that is given."""
        return _given(self)[0]


def as_structured_outputs(given: object) -> StructuredOutputs | None:
    """Read what a user gave: StructuredOutputs, an object with its fields, or None.

    Raises:
        ParameterError: it is none of these; or as ``StructuredOutputs``.
    """
    if given is None or isinstance(given, StructuredOutputs):
        return given
    if not isinstance(given, Mapping):
        raise ParameterError(FIELD, f"takes an object, not {shown(given)}")
    for name in given:
        if name not in _KINDS:
            raise ParameterError(FIELD, f"{shown(name)} is not supported; it takes one of {', '.join(_KINDS)}")
    return StructuredOutputs(**{name: value for name, value in given.items() if value is not None})


def _given(outputs: StructuredOutputs) -> list[str]:
    return [kind for kind in _KINDS if getattr(outputs, kind) not in (None, False)]


def _name(kind: str) -> str:
    return f"{FIELD}.{kind}"


def _schema_text(schema: object) -> object:
    """A schema given as an object as text; any JSON value is let through, for ``true`` is a schema too."""
    if isinstance(schema, str):
        return schema
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ParameterError(_name("json"), "is no JSON") from None


def _choices(choice: object) -> tuple[str, ...]:
    name = _name("choice")
    if not isinstance(choice, list | tuple) or not all(isinstance(each, str) for each in choice):
        raise ParameterError(name, f"takes a list of strings, not {shown(choice)}")
    if not 1 <= len(choice) <= MAX_STRINGS or "" in choice:
        raise ParameterError(name, f"takes 1 to {MAX_STRINGS} strings, none of them empty")
    for each in choice:
        check_text(name, each)
    _check_size("choice", sum(map(len, choice)))
    return tuple(choice)


def _check_grammar(kind: str, text: object) -> None:
    if not isinstance(text, str):
        raise ParameterError(_name(kind), f"takes a string, not {shown(text)}")
    _check_size(kind, len(text))
    check_text(_name(kind), text)


def _check_size(kind: str, size: int) -> None:
    if size > MAX_GRAMMAR:
        raise ParameterError(_name(kind), f"is {size} characters long; at most {MAX_GRAMMAR} are allowed")
