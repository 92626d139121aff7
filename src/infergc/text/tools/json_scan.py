"""JSON character by character: where a value ends, and where what comes can be none."""

import string

_CLOSER = {"{": "}", "[": "]"}
_OUTSIDE = frozenset(string.whitespace + string.digits + ":,.+-E" + "truefalsn")  # of what stands outside strings


class JsonScan:
    """Follows strings and brackets of one JSON object or array. Numbers and commas are for a parser to check.

    Attributes:
        in_string: whether the last character was inside a string, or began one.
    """

    def __init__(self) -> None:
        self.in_string = False
        self._escaped = False
        self._closers: list[str] = []

    @property
    def depth(self) -> int:
        """How many brackets are open; 0 before the value and after it."""
        return len(self._closers)

    def take(self, char: str) -> bool:
        """Take a character; False, with nothing changed, where JSON cannot have it."""
        if self.in_string:
            self._inside(char)
            return True
        if char in _CLOSER:
            self._closers.append(_CLOSER[char])
        elif char == '"':
            self.in_string = True
        elif self._closers and char == self._closers[-1]:
            self._closers.pop()
        else:
            return char in _OUTSIDE
        return True

    def _inside(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self.in_string = False
