"""What a text is to look like, as requests say it: the OpenAI API's response_format, vLLM's structured_outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infergc.params import ParameterError, StructuredOutputs
from infergc.server.requests.fields import Harmless, OffOnly, Unserved
from infergc.structured_outputs import FIELD

_FORMAT = "response_format"
_SENT_AS = {  # what response_format is made into → what the client wrote
    f"{FIELD}.json": f"{_FORMAT}.json_schema.schema",
    f"{FIELD}.regex": f"{_FORMAT}.pattern",
    f"{FIELD}.json_object": _FORMAT,
    FIELD: _FORMAT,
}


class JsonSchema(BaseModel):
    """A JSON schema and what it is called."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Harmless = None
    description: Harmless = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: Annotated[bool | None, Field(description="The text keeps to the schema in any case.")] = None


class ResponseFormat(BaseModel):
    """What the OpenAI API calls the format of an answer, and ``{"type": "regex", "pattern": …}`` beside it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchema | None = None
    pattern: str | None = None

    def structured(self) -> StructuredOutputs | None:
        """What it asks for; None if any text will do.

        Raises:
            ParameterError: a part is missing, or does not belong to the type; or as ``StructuredOutputs``.
        """
        for name, kind in (("json_schema", "json_schema"), ("pattern", "regex")):
            if (getattr(self, name) is None) == (self.type == kind):
                raise ParameterError(f"{_FORMAT}.{name}", f"is required where type is {kind}, and only allowed there")
        if self.type == "json_object":
            return StructuredOutputs(json_object=True)
        if self.json_schema is not None:
            return StructuredOutputs(json=self.json_schema.schema_)
        return None if self.pattern is None else StructuredOutputs(regex=self.pattern)


class StructuredOutputsField(BaseModel):
    """vLLM's field of this name: exactly one of json, regex, choice, grammar and json_object."""

    model_config = ConfigDict(strict=True, extra="forbid")

    json_: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: Unserved = None
    whitespace_pattern: Unserved = None
    disable_any_whitespace: OffOnly = None
    disable_additional_properties: OffOnly = None
    disable_fallback: Harmless = None

    def structured(self) -> StructuredOutputs:
        """What it asks for.

        Raises:
            ParameterError: as ``StructuredOutputs``.
        """
        choice = None if self.choice is None else tuple(self.choice)
        return StructuredOutputs(self.json_, self.regex, choice, self.grammar, bool(self.json_object))


def structured_outputs(
    response_format: ResponseFormat | None, field: StructuredOutputsField | None
) -> StructuredOutputs | None:
    """What a request asks for by either field.

    Raises:
        ParameterError: by both; or a value is not allowed.
    """
    if field is None:
        with named_as_sent(response_format):
            return None if response_format is None else response_format.structured()
    if response_format is not None and response_format.type != "text":
        raise ParameterError(FIELD, f"cannot be combined with {_FORMAT}; give one of them")
    return field.structured()


@contextmanager
def named_as_sent(response_format: ResponseFormat | None) -> Iterator[None]:
    """In this block errors about structured outputs name the field that the request has."""
    try:
        yield
    except ParameterError as error:
        if response_format is None or response_format.type == "text":
            raise
        raise ParameterError(_SENT_AS.get(error.field, error.field), error.message.replace(FIELD, _FORMAT)) from None
