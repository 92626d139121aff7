"""The words of messages: how a value is shown, and what is said where pydantic finds fault with one."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

_SHOWN = 60  # characters of a value
_LARGEST = 2**63 - 1
_TAKES = {  # pydantic's type of a problem → what the field takes
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "path_type": "a path",
    "string_type": "a string",
}
_SAID = {
    "missing": "is required",
    "string_unicode": "holds half a surrogate pair, which is not a character",
}
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def cut(text: str, most: int = _SHOWN) -> str:
    """A text of at most so many characters; dots stand for the rest."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shown(value: object) -> str:
    """A value as messages show it: as JSON, cut where it is long; what is not JSON by its type.

    Cost: O(1) for lists and objects of any length; O(characters) where a text in one is long.
    """
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a number beyond 64 bits"  # Python writes no number of more than 4300 digits
    try:
        text = _beginning(value, ensure_ascii=False)
        if not text.isprintable():
            text = _beginning(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        return f"a {type(value).__name__}"
    return cut(text)


def _beginning(value: object, *, ensure_ascii: bool) -> str:
    """The value's JSON, as far as it is shown and a little more."""
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=ensure_ascii).iterencode(_short(value)):
        text += piece[: _SHOWN + 1]
        if len(text) > _SHOWN:
            break
    return text


def _short(value: object) -> object:
    return value[: _SHOWN + 1] if isinstance(value, str) else value


def counted(number: int, noun: str) -> str:
    """So many of something: "1 page", "2,000 pages"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def fault(problem: Mapping[str, Any], bounds: Iterable[object] = ()) -> str:
    """What is wrong with a field's value, to be said after the field's name.

    Args:
        problem: one of pydantic's ``ValidationError.errors()``.
        bounds: the field's metadata, so that both of its bounds are told when one is broken.
    """
    kind, value = problem["type"], problem["input"]
    if kind in _TAKES:
        return f"takes {_TAKES[kind]}, not {shown(value)}"
    if kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"{shown(value)} is not allowed; it must be {_between(bounds)}"
    if kind == "literal_error":
        allowed = problem["ctx"]["expected"].replace("'", '"')
        return f"{shown(value)} is not one of {allowed}"
    return _SAID.get(kind) or str(problem["msg"]).removeprefix("Value error, ")


def _between(bounds: Iterable[object]) -> str:
    signs = ((sign, getattr(bound, name, None)) for bound in bounds for name, sign in _SIGNS.items())
    return " and ".join(f"{sign} {limit}" for sign, limit in signs if limit is not None)
