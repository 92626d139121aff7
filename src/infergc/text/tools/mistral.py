"""Mistral: ``[TOOL_CALLS][{"name": …, "arguments": {…}}, …]``, and newer ``[TOOL_CALLS]name[ARGS]{…}`` each."""

import re
from collections.abc import Collection, Sequence

from infergc.text.tools.lark import Schemas, Spell, call_rules, grammar, literal, named_object, repeated
from infergc.text.tools.parser import ToolParser

_CALLS, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_HEAD = re.compile(r"\[TOOL_CALLS\]\s*([\w-]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*")
_IN_HEAD = frozenset("[]_- \t\n")


class Mistral:
    """See ``ToolFormat``. Both ways of writing calls are read.

    Args:
        newer: write each call as a name and its arguments, not all in one JSON array.
    """

    name: str = "mistral"
    marks: tuple[str, ...] = (_CALLS, _ARGS, _ID)
    id_length: int | None = 9  # of letters and digits: the templates refuse any other

    def __init__(self, *, newer: bool = False) -> None:
        self.newer = newer

    def parser(self, names: Collection[str]) -> ToolParser:
        """For one answer."""
        return _Parser(names)

    def grammar(self, schemas: Schemas, spell: Spell, *, several: bool) -> str:
        """In the way that the model's template shows."""
        if self.newer:
            return _newer_grammar(schemas, spell, several=several)
        rules = call_rules(schemas, named_object("arguments"), (literal("}"),))
        calls = repeated("call", literal(", "), several=several)
        return grammar(f"{spell(_CALLS)} {literal('[')} {calls} {literal(']')}", rules)


def _newer_grammar(schemas: Schemas, spell: Spell, *, several: bool) -> str:
    def before(name: str) -> Sequence[str]:
        return spell(_CALLS), literal(name), spell(_ARGS)

    return grammar("call+" if several else "call", call_rules(schemas, before, ()))


class _Parser(ToolParser):
    mark = _CALLS

    def _opened(self, char: str) -> None:
        if char == "[":
            self._held += char
            self._after = self._rest
            self._state = self._first
        elif char.isspace():
            self._hold(char)
        else:
            self._state = self._named
            self._named(char)

    def _first(self, char: str) -> None:
        """In the array, before its first call."""
        super()._opened(char)

    def _rest(self, char: str) -> None:
        """In the array, after a call."""
        if char == "]":
            self._held = ""
            self._state = self._content
        elif char == ",":
            self._hold(char)
        else:
            self._first(char)

    def _named(self, char: str) -> None:
        """In the name of a function and what stands between it and the arguments."""
        if char == "{":
            self._begin_named(char)
        elif char.isalnum() or char in _IN_HEAD:
            self._hold(char)
        else:
            self._no_call(char)

    def _begin_named(self, char: str) -> None:
        head = _HEAD.fullmatch(self._held)
        if head is None or head[1] not in self._names:
            self._no_call(char)
            return
        self._after = self._content
        self._read_call(char, head[1])
