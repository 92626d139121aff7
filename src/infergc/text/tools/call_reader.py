"""One call in JSON, read as it comes: ``{"name": …, "arguments": {…}}``, or the arguments alone."""

import json
import re
from collections.abc import Callable, Collection
from enum import Enum
from typing import Any

from infergc.text.tools.calls import Gathered
from infergc.text.tools.json_scan import JsonScan

# What comes before the arguments where the name comes first: as models are taught to write, with few exceptions.
_HEAD = re.compile(
    r'\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"([\w-]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*'
)
_MOST_HEAD = 256  # characters: a name has at most 64, and the keys around it a few dozen
_FIRST_KEY = re.compile(r'\{\s*"(?:name|arguments|parameters|type|id)"\s*')


class Progress(Enum):
    """What became of a character."""

    MORE = "it is part of the call, which goes on"
    DONE = "it is the call's last"
    ALIEN = "it is not part of the call"


class CallReader:
    """Reads one object, from its first brace. Belongs to one call.

    Once the name of a known function and the first brace of its arguments have come, it is a call, and its arguments
    are told as they come, whatever the model makes of them. Keys in another order are read too: such a call is told
    when it is complete. Until then the text is kept, in case that it is none.

    Args:
        out: where calls are told.
        names: of the functions that may be called.
        before: text before the object that is content if this is no call.
        function: the name, where the object is nothing but the arguments.
    """

    def __init__(self, out: Gathered, names: Collection[str], before: str = "", function: str | None = None) -> None:
        self._out = out
        self._names = names
        self._before = before
        self._scan = JsonScan()
        self._chars: list[str] = []
        self._has_key = False  # the first of the object
        self._has_value = False  # the first that is an object or a list: of a head only the arguments are
        self._arguments_end = 1 if function is None else 0  # depth after them
        self._phase: Callable[[str], Progress] = self._head if function is None else self._arguments
        self.told = function is not None
        if function is not None:
            out.begin(function)

    @property
    def untold(self) -> str:
        """The text that is content if no more comes; nothing once the call was told."""
        return "" if self.told else self._before + "".join(self._chars)

    def take(self, char: str) -> Progress:
        """Take a character. After DONE and ALIEN nothing more may be given."""
        if not self._scan.take(char):
            return Progress.ALIEN
        return self._phase(char)

    def _head(self, char: str) -> Progress:
        """Inside the object, before it is known for a call. Each question is asked once, of a few characters."""
        scan = self._scan
        if scan.in_string:
            return self._keep(char) if char >= " " else Progress.ALIEN
        if char in "{[" and scan.depth == 2 and not self._has_value:
            return self._first_value(char)
        if char == ":" and not self._has_key:
            return self._first_key(char)
        if scan.depth == 0:
            return self._complete(char)
        return self._keep(char)

    def _keep(self, char: str) -> Progress:
        """One more; where no key came among as many as a head may have, none is to come."""
        if not self._has_key and len(self._chars) >= _MOST_HEAD:
            return Progress.ALIEN
        self._chars.append(char)
        return Progress.MORE

    def _first_key(self, char: str) -> Progress:
        """Whether a call begins with this key."""
        self._has_key = True
        return self._keep(char) if _FIRST_KEY.fullmatch("".join(self._chars)) else Progress.ALIEN

    def _first_value(self, char: str) -> Progress:
        """Whether the text so far is that of a call up to its arguments; it is told then."""
        self._has_value = True
        if char == "[" or len(self._chars) > _MOST_HEAD:
            return self._keep(char)
        head = _HEAD.fullmatch("".join(self._chars))
        if head is None or head[1] not in self._names:
            return self._keep(char)
        self._tell(head[1])
        self._phase = self._arguments
        return self._arguments(char)

    def _complete(self, char: str) -> Progress:
        """The object ended before it was known for a call: its keys may stand in another order."""
        call = _as_call("".join(self._chars) + char)
        if call is None or call[0] not in self._names:
            return Progress.ALIEN
        self._tell(call[0])
        self._out.argue(json.dumps(call[1], ensure_ascii=False))
        return Progress.DONE

    def _tell(self, name: str) -> None:
        self.told = True
        self._out.begin(name)

    def _arguments(self, char: str) -> Progress:
        self._out.argue(char)
        if self._scan.depth > self._arguments_end:
            return Progress.MORE
        self._phase = self._tail
        return self._tail(char)

    def _tail(self, _char: str) -> Progress:
        """After the arguments; what else the object holds, such as an id of the model's own, says nothing."""
        return Progress.MORE if self._scan.depth else Progress.DONE


def _as_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of a call's JSON; None if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match value:
        case {"name": str(name), "arguments": dict(arguments)} | {"name": str(name), "parameters": dict(arguments)}:
            return name, arguments
    return None
