"""What all readers of calls share: content until a mark begins a call."""

from collections.abc import Callable, Collection

from infergc.text.tools.call_reader import CallReader, Progress
from infergc.text.tools.calls import Gathered, ToolDelta

MOST_HELD = 256  # characters that stand between a mark and a call, or between two


class ToolParser:
    """Finds calls in the text of one answer, in the same places however the text is cut into pieces.

    It goes by character, from state to state; each state is a method. Text that begins like a call and is none
    becomes content as it stands. A subclass says what follows ``mark`` (``_opened``), if that is no object at once.

    Args:
        names: functions that may be called; what calls others is content.
    """

    mark: str

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._out = Gathered()
        self._held = ""  # the beginning of what may be a call, or a mark
        self._reader: CallReader | None = None
        self._after: Callable[[str], None] = self._content  # the state after the call that is being read
        self._state: Callable[[str], None] = self._content

    @property
    def calls(self) -> int:
        """How many calls have begun."""
        return self._out.calls

    def push(self, text: str, *, last: bool = False) -> ToolDelta:
        """Take more text; what is certain now. After the ``last`` nothing more may be pushed."""
        for char in text:
            self._state(char)
        if last:
            self._out.say(self._held if self._reader is None else self._reader.untold)
        return self._out.take(last=last)

    def _content(self, char: str) -> None:
        self._held += char
        while not self.mark.startswith(self._held):
            self._out.say(self._held[0])
            self._held = self._held[1:]
        if self._held == self.mark:
            self._state = self._opened

    def _opened(self, char: str) -> None:
        """After the mark: the object of a call, maybe with white space before it."""
        if char == "{":
            self._read_call(char)
        elif char.isspace():
            self._hold(char)
        else:
            self._no_call(char)

    def _hold(self, char: str) -> None:
        """Keep a character of what may come before a call; no call is so far away."""
        if len(self._held) < MOST_HELD:
            self._held += char
        else:
            self._no_call(char)

    def _no_call(self, char: str) -> None:
        """What is held was no call; this character is the next."""
        self._out.say(self._held)
        self._held = ""
        self._state = self._content
        self._content(char)

    def _read_call(self, char: str, function: str | None = None) -> None:
        """A call's object begins with this character."""
        self._reader = CallReader(self._out, self._names, self._held, function)
        self._held = ""
        self._state = self._reading
        self._reading(char)

    def _reading(self, char: str) -> None:
        reader = self._reader
        progress = reader.take(char) if reader is not None else Progress.ALIEN
        if reader is None or progress is Progress.MORE:
            return
        self._reader = None
        self._state = self._after
        if progress is Progress.ALIEN and reader.told:
            self._state(char)
        elif progress is Progress.ALIEN:
            self._held = reader.untold
            self._no_call(char)
