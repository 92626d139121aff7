"""``tools`` and ``tool_choice`` as request fields."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from infergc.client.prepare import INVALID_VALUE
from infergc.server.errors import UNSUPPORTED
from infergc.wording import shown

MAX_TOOLS = 128  # as in the OpenAI API
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_CHOICES = '"none", "auto", "required" or {"type": "function", "function": {"name": "…"}}'


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        message = "{name} is not allowed; it must be 1 to 64 letters, digits, underscores or dashes"
        raise PydanticCustomError(INVALID_VALUE, message, {"name": shown(name)})
    return name


def _checked_schema(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """Arguments are an object. What else a JSON schema may hold, the grammar knows that is made of it."""
    if schema is not None and schema.get("type", "object") != "object":
        message = 'must be the JSON schema of an object, with "type": "object", not {kind}'
        raise PydanticCustomError(INVALID_VALUE, message, {"kind": shown(schema["type"])})
    return schema


def _kind(value: Any) -> Any:
    if isinstance(value, str) and value != "function":
        raise PydanticCustomError(UNSUPPORTED, "{kind} is not supported; only function is", {"kind": shown(value)})
    return value


class FunctionField(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, AfterValidator(_checked_name)]
    description: str | None = None
    parameters: Annotated[dict[str, Any] | None, AfterValidator(_checked_schema)] = None
    strict: bool | None = None

    @property
    def schema_of_arguments(self) -> dict[str, Any]:
        """A function without parameters takes none."""
        return _NO_ARGUMENTS if self.parameters is None else self.parameters


class ToolField(BaseModel):
    """A tool; functions are the only kind."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Annotated[Literal["function"], BeforeValidator(_kind)]
    function: FunctionField

    def for_template(self) -> dict[str, Any]:
        """As chat templates know it; ``strict`` says something to the server, not to the model."""
        described = self.function.model_dump(include={"name", "description"}, exclude_none=True)
        return {"type": self.type, "function": {**described, "parameters": self.function.schema_of_arguments}}


class ChosenFunction(BaseModel):
    """The function that the answer must call."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str


class NamedChoice(BaseModel):
    """A ``tool_choice`` that names a function."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["function"]
    function: ChosenFunction


def _checked_tools(tools: list[ToolField]) -> list[ToolField]:
    if len(tools) > MAX_TOOLS:
        message = "holds {count} tools; at most {most} are allowed"
        raise PydanticCustomError(INVALID_VALUE, message, {"count": len(tools), "most": MAX_TOOLS})
    seen: set[str] = set()
    for tool in tools:
        if tool.function.name in seen:
            message = "two functions are named {name}; names must differ"
            raise PydanticCustomError(INVALID_VALUE, message, {"name": shown(tool.function.name)})
        seen.add(tool.function.name)
    return tools


def _choice(value: Any) -> Any:
    """One message for whatever is none of the forms."""
    match value:
        case None | "none" | "auto" | "required" | {"type": "function", "function": {"name": str()}}:
            return value
    raise PydanticCustomError(INVALID_VALUE, "takes {forms}, not {value}", {"forms": _CHOICES, "value": shown(value)})


Tools = Annotated[list[ToolField], AfterValidator(_checked_tools)]
ToolChoice = Annotated[Literal["none", "auto", "required"] | NamedChoice | None, BeforeValidator(_choice)]
