"""The messages of a chat as request fields."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from infergc.client.prepare import INVALID_VALUE
from infergc.server.errors import TOO_COMPLEX
from infergc.server.requests.body_limits import excess
from infergc.server.requests.fields import EmptyOnly, Harmless, MessageText, Unserved
from infergc.wording import shown

MOST_ARGUMENTS = 1_048_576  # characters of the JSON of all calls together

_Value = TypeVar("_Value")


def _arguments(text: object) -> dict[str, Any]:
    """Of the JSON of an object; models that call a function without any leave it empty at times."""
    if not isinstance(text, str):
        raise PydanticKnownError("string_type")
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise PydanticCustomError(INVALID_VALUE, "takes the JSON of an object, not {text}", {"text": shown(text)})
    return value


class CalledFunction(BaseModel):
    """What an earlier answer called; of its arguments' JSON the object is kept."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    arguments: Annotated[dict[str, Any], PlainValidator(_arguments), WithJsonSchema({"type": "string"})]
    parsed_arguments: Harmless = None  # openai-python sends back what it made of them


class MadeCall(BaseModel):
    """A call that an earlier answer made."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: Harmless = None  # of a stream's deltas, sent back by those who put them together

    def for_template(self) -> dict[str, Any]:
        """As chat templates know it: arguments are no text, for most templates write them as JSON themselves."""
        function = {"name": self.function.name, "arguments": self.function.arguments}
        return {"id": self.id, "type": self.type, "function": function}


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: list[MadeCall] | None = None
    content: Annotated[MessageText | None, Field(validate_default=True)] = None
    tool_call_id: Annotated[str | None, Field(validate_default=True)] = None
    name: str | None = None
    function_call: Unserved = None
    refusal: Unserved = None
    audio: Unserved = None
    annotations: EmptyOnly = None
    parsed: Harmless = None  # openai-python sends back what it made of an answer
    provider_specific_fields: Harmless = None  # litellm sends back what it put there

    @field_validator("tool_calls")
    @classmethod
    def _called(cls, calls: list[MadeCall] | None, others: ValidationInfo) -> list[MadeCall] | None:
        return _only_for("assistant", calls, others)

    @field_validator("content", mode="before")
    @classmethod
    def _said(cls, content: Any, others: ValidationInfo) -> Any:
        """A message that calls functions may say nothing. Templates are spared the difference between none and ""."""
        if content is None and not others.data.get("tool_calls"):
            raise PydanticCustomError("missing", "is required")
        return "" if content is None else content

    @field_validator("tool_call_id")
    @classmethod
    def _answered(cls, call: str | None, others: ValidationInfo) -> str | None:
        if call is None and others.data.get("role") == "tool":
            raise PydanticCustomError("missing", "is required")
        return _only_for("tool", call, others)

    @field_validator("name")
    @classmethod
    def _named(cls, name: str | None, others: ValidationInfo) -> str | None:
        return _only_for("tool", name, others)

    def for_template(self) -> dict[str, Any]:
        """As chat templates know it; "developer" is the OpenAI API's newer word for "system"."""
        rendered = self.model_dump(include={"content", "tool_call_id", "name"}, exclude_none=True)
        if self.tool_calls:
            rendered["tool_calls"] = [call.for_template() for call in self.tool_calls]
        return {"role": "system" if self.role == "developer" else self.role, **rendered}


def _only_for(role: str, value: _Value, others: ValidationInfo) -> _Value:
    """A field that messages of other roles do not have; its role is unknown where that was refused already."""
    if value and others.data.get("role", role) != role:
        message = 'is only allowed in a message of the role "{role}"'
        raise PydanticCustomError(INVALID_VALUE, message, {"role": role})
    return value


def _checked_arguments(messages: Any) -> Any:
    """Arguments are JSON within JSON: what the body's limits took for text is to keep to them, too."""
    texts = list(_texts_of_arguments(messages))
    length = sum(map(len, texts))
    if length > MOST_ARGUMENTS:
        words = f"{length} characters; at most {MOST_ARGUMENTS} are allowed"
    else:
        words = excess([text.encode("utf-8", "surrogatepass") for text in texts]) or ""
    if words:
        raise PydanticCustomError(TOO_COMPLEX, "the arguments of calls have {words}", {"words": words})
    return messages


def _texts_of_arguments(messages: Any) -> Iterator[str]:
    for message in messages if isinstance(messages, list) else ():
        match message:
            case {"tool_calls": [*calls]}:
                yield from (text for call in calls if (text := _text_of_arguments(call)))


def _text_of_arguments(call: Any) -> str | None:
    match call:
        case {"function": {"arguments": str(text)}}:
            return text
    return None


Messages = Annotated[list[Message], Field(fail_fast=True), BeforeValidator(_checked_arguments)]
