"""Kinds of request fields: what is served, what is accepted because it changes nothing, what is refused by name."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from infergc.client.prepare import INVALID_VALUE
from infergc.params import MAX_COUNT, MAX_STOP_LENGTH, MAX_STOPS
from infergc.server.errors import UNSUPPORTED
from infergc.wording import shown

MAX_PROMPTS = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Only:
    """A field that is known but not served: only these values, which ask for nothing, are taken."""

    allowed: tuple[object, ...]

    @property
    def names(self) -> str:
        """The values, as they are written in JSON."""
        return " or ".join(map(shown, self.allowed))

    def check(self, value: Any) -> Any:
        """Refuse every other value."""
        if any(value == harmless and type(value) is type(harmless) for harmless in self.allowed):
            return value
        message = "is not supported yet; leave it out (or send {names})"
        raise PydanticCustomError(UNSUPPORTED, message, {"names": self.names})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As pydantic's own ``AfterValidator``."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """What the server's description says of the field."""
        return {**handler(schema), "enum": list(self.allowed)}


def only(*allowed: object) -> Only:
    """See ``Only``."""
    return Only(allowed)


def prompts(value: Any) -> list[str] | list[list[int]]:
    """A string, a list of token ids, or a list of either, as a list of prompts."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise ValueError(f"takes {_PROMPT_FORMS}, not {shown(value)}")
    if not value or "" in value or [] in value:
        raise PydanticCustomError(INVALID_VALUE, "must not be empty")
    if _is_ids(value):
        return [value]
    if len(value) > MAX_PROMPTS:
        message = "holds {count} prompts; at most {most} are allowed in one request"
        raise PydanticCustomError(INVALID_VALUE, message, {"count": len(value), "most": MAX_PROMPTS})
    if all(isinstance(prompt, str) for prompt in value):
        return value
    if all(_is_ids(prompt) for prompt in value):
        return value
    raise ValueError(f"takes {_PROMPT_FORMS}; these items are neither all strings nor all lists of ids")


def stop_strings(value: Any) -> Any:
    """One stop string is a list of one."""
    if value is not None and not isinstance(value, str | list):
        raise ValueError(f"takes a string or a list of strings, not {shown(value)}")
    return [value] if isinstance(value, str) else value


def token_biases(value: Any) -> Any:
    """A number for each token id; ids are strings, as keys of JSON are."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f'takes token ids and numbers, as in {{"50256": -100}}, not {shown(value)}')
    for key, bias in (value or {}).items():
        if isinstance(bias, bool) or not isinstance(bias, int | float):
            raise ValueError(f"of token {shown(key)} is {shown(bias)}; it must be a number from -100 to 100")
    return value


def message_text(value: Any) -> str:
    """A chat message's content: a string, or a list of text parts that are joined by line ends."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError(f"takes a string or a list of text parts, not {shown(value)}")
    return "\n".join(_part_text(part, number) for number, part in enumerate(value))


_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}, "minItems": 1}
_PROMPT = {"type": "string", "minLength": 1}
_PROMPTS = [
    _PROMPT,
    _IDS,
    *({"type": "array", "items": one, "minItems": 1, "maxItems": MAX_PROMPTS} for one in (_PROMPT, _IDS)),
]
_STOP = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_LENGTH}
_STOPS = [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}, {"type": "null"}]
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
    "additionalProperties": False,
}
_TEXTS = [{"type": "string"}, {"type": "array", "items": _PART, "minItems": 1}]

Prompts = Annotated[list[str] | list[list[int]], BeforeValidator(prompts), WithJsonSchema({"anyOf": _PROMPTS})]
Ids = Annotated[list[int], Field(fail_fast=True)]  # of a million wrong items, the first is enough to tell
Stops = Annotated[
    Annotated[list[str], Field(fail_fast=True)] | None,
    BeforeValidator(stop_strings),
    WithJsonSchema({"anyOf": _STOPS}),
]
Biases = Annotated[dict[str, float] | None, BeforeValidator(token_biases)]
MessageText = Annotated[str, BeforeValidator(message_text), WithJsonSchema({"anyOf": _TEXTS})]
Unserved = Annotated[Any, only(None)]
OffOnly = Annotated[Any, only(None, False)]
EmptyOnly = Annotated[Any, only(None, [])]
Harmless = Annotated[Any, Field(description="Accepted; changes nothing here.")]

_PROMPT_FORMS = "a string, a list of token ids, or a list of either"


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _part_text(part: Any, number: int) -> str:
    match part:
        case {"type": "text", "text": str(text), **rest} if not rest:
            return text
        case {"type": str(kind)} if kind != "text":
            raise PydanticCustomError(
                UNSUPPORTED,
                "part {number} is of type {kind}; only text parts are supported",
                {"number": number, "kind": shown(kind)},
            )
    raise ValueError(f'part {number} must be {{"type": "text", "text": "…"}}')
