"""What is found in a model's text: content, and calls of functions piece by piece."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class CallDelta:
    """News of one call.

    Attributes:
        index: which of the text's calls, from 0.
        name: of the function; None after the call's first news.
        arguments: what is new of the arguments' JSON, as the model wrote it.
    """

    index: int
    name: str | None
    arguments: str


@dataclass(slots=True)
class ToolDelta:
    """News of a text: content, and one entry for each call that has news, in order."""

    content: str = ""
    calls: list[CallDelta] = field(default_factory=list)


class Gathered:
    """What a parser has found and not told yet.

    White space right before a call, and at the end of a text with calls, is layout and no content.

    Attributes:
        calls: how many have begun so far.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._content: list[str] = []
        self._space: list[str] = []  # at the end of the content; what follows decides whether it belongs to it
        self._news: list[tuple[int, str | None, list[str]]] = []

    def say(self, text: str) -> None:
        """Text that belongs to no call."""
        solid = text.rstrip()
        if solid:
            self._content += (*self._space, solid)
            self._space = []
        if len(solid) < len(text):
            self._space.append(text[len(solid) :])

    def begin(self, name: str) -> None:
        """A call of this function begins."""
        self._space = []
        self._news.append((self.calls, name, []))
        self.calls += 1

    def argue(self, text: str) -> None:
        """More of the last call's arguments."""
        if not self._news:
            self._news.append((self.calls - 1, None, []))
        self._news[-1][2].append(text)

    def take(self, *, last: bool = False) -> ToolDelta:
        """All of it; ``last`` where no more comes."""
        if last and not self.calls:
            self._content += self._space
        calls = [CallDelta(index, name, "".join(parts)) for index, name, parts in self._news]
        delta = ToolDelta("".join(self._content), calls)
        self._content, self._news = [], []
        return delta
