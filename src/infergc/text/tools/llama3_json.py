"""Llama 3.x: the answer is ``{"name": …, "parameters": {…}}``, or several with semicolons between them."""

from collections.abc import Collection

from infergc.text.tools.lark import Schemas, Spell, call_rules, grammar, literal, named_object, repeated
from infergc.text.tools.parser import ToolParser

_MARK = "<|python_tag|>"


class Llama3Json:
    """See ``ToolFormat``."""

    name: str = "llama3_json"
    marks: tuple[str, ...] = (_MARK,)
    id_length: int | None = None

    def parser(self, names: Collection[str]) -> ToolParser:
        """For one answer."""
        return _Parser(names)

    def grammar(self, schemas: Schemas, spell: Spell, *, several: bool) -> str:  # noqa: ARG002
        """Without the mark, which the templates show for built-in tools alone."""
        rules = call_rules(schemas, named_object("parameters"), (literal("}"),))
        return grammar(repeated("call", literal("; "), several=several), rules)


class _Parser(ToolParser):
    """A call stands at the very start, after the mark, or after another call."""

    mark = _MARK

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self._state = self._opened
        self._after = self._next

    def _next(self, char: str) -> None:
        if char == ";":
            self._hold(char)
        else:
            self._opened(char)
