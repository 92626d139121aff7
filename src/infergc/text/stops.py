"""Stop strings in a stream of text."""

import re
from collections.abc import Sequence


class StopScanner:
    """Finds the first stop string to be completed, however the text is cut into chunks.

    Of several that are completed by the same character, the longest counts. Only text that may still
    become part of a match is held back. Cost: Knuth, Morris & Pratt 1977, amortised constant per
    character and stop string, and a single search where no stop string can begin.

    Args:
        stops: non-empty strings.
        include: let the matched string be part of the text.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._include = include
        self._patterns = [_Pattern(stop) for stop in sorted(set(stops), key=len, reverse=True)]
        self._first = re.compile("|".join(re.escape(stop[0]) for stop in stops) if stops else r"(?!)")
        self._held = ""

    def push(self, text: str, *, armed: bool = True) -> tuple[str, str | None]:
        """Take more text.

        Args:
            text: the next chunk; nothing may be pushed after a match.
            armed: whether a stop string completed in this chunk counts as a match.

        Returns:
            The text that is now certain to be output, and the stop string if one was completed.
        """
        begin = 0
        if not self._held:
            possible = self._first.search(text)
            if possible is None:
                return text, None
            begin = possible.start()
        for at in range(begin, len(text)):
            stop = self._advance(text[at])
            if stop is not None and armed:
                return self._cut(self._held + text[: at + 1], stop), stop
        return self._release(self._held + text), None

    def flush(self) -> str:
        """The text held back, when no more comes."""
        held, self._held = self._held, ""
        return held

    def _advance(self, char: str) -> str | None:
        """Move all patterns on by a character; the longest one it completes."""
        found = None
        for pattern in self._patterns:
            if pattern.advance(char) and found is None:
                found = pattern.text
        return found

    def _cut(self, text: str, stop: str) -> str:
        self._held = ""
        return text if self._include else text[: len(text) - len(stop)]

    def _release(self, text: str) -> str:
        """Hold back what the furthest pattern has matched so far; the rest may go."""
        certain = len(text) - max(pattern.matched for pattern in self._patterns)
        self._held = text[certain:]
        return text[:certain]


class _Pattern:
    """One stop string and how much of it the text's end matches."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._fallback = _borders(text)

    def advance(self, char: str) -> bool:
        """Take a character; True if it completes the string, and matching goes on from its border."""
        matched = self.matched
        while matched and self.text[matched] != char:
            matched = self._fallback[matched - 1]
        if self.text[matched] == char:
            matched += 1
        complete = matched == len(self.text)
        self.matched = self._fallback[-1] if complete else matched
        return complete


def _borders(text: str) -> list[int]:
    """For each prefix, the length of its longest proper border (a prefix that is also its suffix)."""
    borders = [0] * len(text)
    length = 0
    for i in range(1, len(text)):
        while length and text[i] != text[length]:
            length = borders[length - 1]
        if text[i] == text[length]:
            length += 1
        borders[i] = length
    return borders
