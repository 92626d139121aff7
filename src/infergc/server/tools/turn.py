"""What a request with tools asks of one turn of a chat, and whether the served model can do it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from infergc.params import ParameterError, SamplingParams, StructuredOutputs
from infergc.server.requests.types import ChatRequest
from infergc.server.tools.fields import NamedChoice, ToolField
from infergc.structured_outputs import FIELD
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer
from infergc.text.tools.formats import ToolFormat, find_format
from infergc.text.tools.lark import literal
from infergc.text.tools.parser import ToolParser
from infergc.wording import shown


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """One turn in which functions may be called.

    Attributes:
        format: how the model writes calls.
        tokenizer: the model's, whose text shows the marks around calls.
        mark_ids: of the marks for which the model has a token.
        schemas: name of each function that the request describes → JSON schema of its arguments.
        must: those of which the answer must call one; empty where it need not call any.
        several: whether it may call more than one.
    """

    format: ToolFormat
    tokenizer: Tokenizer
    mark_ids: Mapping[str, int]
    schemas: Mapping[str, Mapping[str, Any]]
    must: tuple[str, ...]
    several: bool

    def parser(self) -> ToolParser:
        """For one of the turn's answers."""
        return self.format.parser(self.schemas.keys())

    def constrain(self, params: SamplingParams) -> SamplingParams:
        """The parameters under which the answer calls what it must.

        Raises:
            ParameterError: a grammar is asked for beside the tools; or a schema is too large, or too deeply nested.
        """
        if params.structured_outputs is not None:
            message = 'cannot be combined with response_format or structured_outputs, unless tool_choice is "none"'
            raise ParameterError("tools", message)
        if not self.must:
            return params
        schemas = {name: self.schemas[name] for name in self.must}
        try:
            text = self.format.grammar(schemas, self._spell, several=self.several)
            return replace(params, structured_outputs=StructuredOutputs(grammar=text))
        except RecursionError:
            raise ParameterError("tools", "a function's parameters are nested too deeply") from None
        except ParameterError as error:
            raise ParameterError(error.field, error.message.replace(FIELD, "tool_choice")) from None

    def arguments(self) -> Iterator[tuple[int, StructuredOutputs]]:
        """Each function of which one must be called, by its place among the tools: the grammar of its arguments."""
        for at, (name, schema) in enumerate(self.schemas.items()):
            if name in self.must:
                yield at, StructuredOutputs(json=schema)

    def _spell(self, mark: str) -> str:
        """A mark that has a token comes as that, not spelled out: so the model learned it."""
        return f"<[{self.mark_ids[mark]}]>" if mark in self.mark_ids else literal(mark)


class ToolSupport:
    """What one served model can do with tools.

    Args:
        flag: ``--tool-call-parser``.
        template: of the model.
        tokenizer: of the model.
    """

    def __init__(self, flag: str, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._format = find_format(flag, template.tool_source)
        marks = () if self._format is None else self._format.marks
        found = {mark: tokenizer.token_id(mark) for mark in marks}
        self._mark_ids = {mark: token for mark, token in found.items() if token is not None}
        self._tokenizer = tokenizer.showing(self._mark_ids.values())

    def turn(self, body: ChatRequest) -> ToolTurn | None:
        """The turn that a request asks for; None where it gives no tools, or forbids their use.

        Raises:
            ParameterError: tool_choice asks for what is not among the tools, or it is not known how this model
                writes calls.
        """
        tools, choice = body.tools or [], body.tool_choice
        must = _must(tools, choice)
        if not tools or choice == "none":
            return None
        if self._format is None:
            message = "it is not known how this model writes calls; the server can be told with --tool-call-parser"
            raise ParameterError("tools", message)
        schemas = {tool.function.name: tool.function.schema_of_arguments for tool in tools}
        several = body.parallel_tool_calls is not False
        return ToolTurn(self._format, self._tokenizer, self._mark_ids, schemas, must, several)


@contextmanager
def named_as_tools() -> Iterator[None]:
    """In this block errors about the grammar of calls name the tools that it is made of."""
    try:
        yield
    except ParameterError as error:
        if error.field.startswith(FIELD):
            said = error.message.partition("\n")[0]  # what follows repeats the grammar, which nobody sent
            raise ParameterError("tools", f"the grammar of their calls {said}") from None
        raise


@contextmanager
def named_as_parameters(at: int) -> Iterator[None]:
    """In this block errors name the parameters of the tool at this place."""
    try:
        yield
    except ParameterError as error:
        raise ParameterError(f"tools[{at}].function.parameters", error.message) from None


def _must(tools: list[ToolField], choice: str | NamedChoice | None) -> tuple[str, ...]:
    """The functions of which one must be called."""
    names = tuple(tool.function.name for tool in tools)
    if isinstance(choice, NamedChoice):
        if choice.function.name not in names:
            raise ParameterError("tool_choice", f"{shown(choice.function.name)} is not the name of one of the tools")
        return (choice.function.name,)
    if choice != "required":
        return ()
    if not names:
        raise ParameterError("tool_choice", '"required" is only allowed with tools')
    return names
