"""Chat templates: a conversation to the text its model was trained on."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Self

import jinja2
from jinja2 import meta
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from infergc.params import ParameterError
from infergc.text.files import named_special_tokens, read_tokenizer_config

Message = Mapping[str, Any]

# What templates raise on conversations that they were not written for, beside their own raise_exception.
_RENDER_ERRORS = (
    jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
)  # fmt: skip


class ChatTemplateError(ValueError):
    """A chat template cannot be read."""


class ConversationError(ParameterError):
    """The model's template does not take this conversation: the caller's to correct."""

    def __init__(self, message: str) -> None:
        super().__init__("messages", message)


class NoChatTemplateError(ConversationError):
    """The model takes no conversation at all: it has no chat template."""


class NoToolsError(ParameterError):
    """The model cannot be told of tools: its chat template has no place for them."""

    def __init__(self) -> None:
        super().__init__("tools", _NO_TOOLS)


_NO_TOOLS = "this model's chat template has no place for tools; leave them out, or give one that has (--chat-template)"


class ChatTemplate:
    """A model's chat template, in a sandbox that can neither reach Python's internals nor change its inputs.

    Args:
        sources: templates by name; "default" is used, or "tool_use" for conversations with tools.
        special_tokens: variables that templates see, such as ``bos_token``.

    Attributes:
        tool_source: the text of the template for conversations with tools; "" where there is none.
        takes_tools: whether that template says anything of tools.

    Raises:
        ChatTemplateError: a template's syntax is wrong.
    """

    def __init__(self, sources: Mapping[str, str], special_tokens: Mapping[str, str]) -> None:
        self._special_tokens = dict(special_tokens)
        environment = _environment()
        self._templates = {name: _compile(environment, name, source) for name, source in sources.items()}
        self.tool_source = sources.get("tool_use", sources.get("default", ""))
        self.takes_tools = "tools" in meta.find_undeclared_variables(environment.parse(self.tool_source))

    @classmethod
    def load(cls, model_dir: str | Path, override: str | Path | None = None) -> Self:
        """Read the template of ``override`` (a file; the flag --chat-template), else the directory's own.

        That is ``chat_template.jinja``, else ``chat_template`` in ``tokenizer_config.json``. A directory
        without one loads too: ``render`` then says what is missing.

        Raises:
            ChatTemplateError: a file cannot be read or its template's syntax is wrong.
        """
        model_dir = Path(model_dir)
        config = read_tokenizer_config(model_dir)
        origin, sources = _sources(model_dir, config, override)
        try:
            return cls(sources, named_special_tokens(config))
        except ChatTemplateError as error:
            raise ChatTemplateError(f"{origin}: {error}") from error

    def __bool__(self) -> bool:
        """Whether there is a template."""
        return bool(self._templates)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The conversation as text, special tokens included: encode it with ``add_special_tokens=False``.

        Args:
            messages: each with ``role`` and ``content``; keys that hold None are left out.
            add_generation_prompt: end with the words that begin the assistant's answer.
            tools: JSON schemas of functions.
            documents: texts for templates that quote them.
            variables: what else the template knows, such as ``enable_thinking``.

        Raises:
            NoChatTemplateError: the model has none.
            NoToolsError: there are tools, which the template would leave out.
            ConversationError: the template refused the conversation or failed on it, or it is empty.
        """
        template = self._template(has_tools=bool(tools))
        if tools and not self.takes_tools:
            raise NoToolsError
        if not messages:
            raise ConversationError("at least one message is needed")
        context = {
            **self._special_tokens,
            "messages": [{k: v for k, v in message.items() if v is not None} for message in messages],
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
            **variables,
        }
        try:
            return template.render(context)
        except _RENDER_ERRORS as error:
            raise ConversationError(f"the chat template refused them: {error}") from error

    def _template(self, *, has_tools: bool) -> jinja2.Template:
        for name in ("tool_use", "default") if has_tools else ("default",):
            if name in self._templates:
                return self._templates[name]
        raise NoChatTemplateError(
            "this model has no chat template: give one with --chat-template, or use completions instead"
        )


def _sources(model_dir: Path, config: Mapping[str, Any], override: str | Path | None) -> tuple[str, dict[str, str]]:
    """Where templates come from, and what they are."""
    path = Path(override) if override is not None else model_dir / "chat_template.jinja"
    try:
        return f"--chat-template: {path}" if override is not None else str(path), {"default": path.read_text("utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        if override is not None:
            raise ChatTemplateError(f"--chat-template: cannot read {path}: {error}") from error
        if not isinstance(error, FileNotFoundError):
            raise ChatTemplateError(f"{path}: {error}") from error
    return str(model_dir / "tokenizer_config.json"), _listed(config.get("chat_template"))


def _listed(template: Any) -> dict[str, str]:
    """The templates of ``tokenizer_config.json``: none, one, or several with names."""
    match template:
        case None:
            return {}
        case str():
            return {"default": template}
        case [*entries] if all(isinstance(entry, dict) and {"name", "template"} <= entry.keys() for entry in entries):
            return {entry["name"]: entry["template"] for entry in entries}
    raise ChatTemplateError("tokenizer_config.json: chat_template is neither a text nor a list of named texts")


def _compile(environment: jinja2.Environment, name: str, source: str) -> jinja2.Template:
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ChatTemplateError(f"chat template {name!r}, line {error.lineno}: {error.message}") from error


def _environment() -> ImmutableSandboxedEnvironment:
    """What the templates of Hugging Face models are written for."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return environment


class _Generation(Extension):
    """``{% generation %} … {% endgeneration %}`` marks an answer for training; here it does nothing."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it as an instance attribute)

    def parse(self, parser: Parser) -> list[Node]:
        """The statements inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # templates mean the local time


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without HTML escapes, unlike jinja2's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
