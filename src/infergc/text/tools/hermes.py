"""Hermes and Qwen: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, one such pair for each call."""

from collections.abc import Collection

from infergc.text.tools.lark import Schemas, Spell, call_rules, grammar, literal, named_object, repeated
from infergc.text.tools.parser import MOST_HELD, ToolParser

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class Hermes:
    """See ``ToolFormat``."""

    name: str = "hermes"
    marks: tuple[str, ...] = (_OPEN, _CLOSE)
    id_length: int | None = None

    def parser(self, names: Collection[str]) -> ToolParser:
        """For one answer."""
        return _Parser(names)

    def grammar(self, schemas: Schemas, spell: Spell, *, several: bool) -> str:
        """Calls on lines of their own, as the chat templates show them."""
        line = literal("\n")
        rules = call_rules(schemas, named_object("arguments"), (literal("}"),))
        wrapped = f"wrapped: {spell(_OPEN)} {line} call {line} {spell(_CLOSE)}"
        return grammar(repeated("wrapped", line, several=several), (wrapped, *rules))


class _Parser(ToolParser):
    mark = _OPEN

    def _opened(self, char: str) -> None:
        self._after = self._closing
        super()._opened(char)

    def _closing(self, char: str) -> None:
        """After a call; models forget the closing mark at times."""
        self._held += char
        mark = self._held.lstrip()
        if not _CLOSE.startswith(mark) or len(self._held) > MOST_HELD:
            held, self._held = self._held, ""
            self._state = self._content
            for again in held:
                self._state(again)
        elif mark == _CLOSE:
            self._held = ""
            self._state = self._content
