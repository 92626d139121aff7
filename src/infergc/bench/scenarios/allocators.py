"""Ways to keep KV that the engine does not have: what a plain serving loop asks for memory.

All count in tokens; memory of a text covers its first tokens without a gap, as an engine without pages needs it.
"""

from typing import Protocol

from infergc.bench.scenarios.first_fit import FirstFit
from infergc.units import ceil_div

LEAST = 16  # tokens of a buffer, and of a page


class Allocator(Protocol):
    """Memory for texts, each under the number of its request.

    Attributes:
        peak: most tokens that memory was ever held for, moments within a step included.
        copied: tokens whose KV was copied since it was last set to 0.
    """

    peak: int
    copied: int

    @property
    def held(self) -> int:
        """Tokens that memory is held for."""
        ...

    def admit(self, text: int, known: int, first: int, running: int) -> bool:
        """Let a text start, or change nothing.

        Args:
            text: which.
            known: its tokens, all of which are to be computed.
            first: those of them that are computed in the first step.
            running: texts that run already.
        """
        ...

    def grow(self, text: int, tokens: int) -> bool:
        """Make room for so many tokens of a text that runs, or change nothing."""
        ...

    def free(self, text: int) -> None:
        """Take a text's memory back."""
        ...


class Reserved:
    """Each text gets contiguous memory for the longest that there may be, as FasterTransformer and Orca did.

    Args:
        pool: tokens.
        longest: tokens of the longest text.
    """

    def __init__(self, pool: int, longest: int) -> None:
        self.held = self.peak = self.copied = 0
        self._pool, self._longest = pool, longest

    def admit(self, text: int, known: int, first: int, running: int) -> bool:  # noqa: ARG002 - the protocol's
        """See ``Allocator``."""
        if self.held + self._longest > self._pool:
            return False
        self.held += self._longest
        self.peak = max(self.peak, self.held)
        return True

    def grow(self, text: int, tokens: int) -> bool:  # noqa: ARG002 - the protocol's
        """All of it is there from the start."""
        return True

    def free(self, text: int) -> None:  # noqa: ARG002 - the protocol's
        """See ``Allocator``."""
        self.held -= self._longest


class Doubling:
    """Contiguous buffers of 16, 32, 64 … tokens out of a first-fit allocator, each doubled when it is full.

    A text begins with the smallest buffer for all its known tokens. Doubling takes the new buffer, copies, and gives
    the old one back, one text after the other. No buffer is larger than the longest text.

    Args:
        pool: tokens.
        longest: tokens of the longest text.
        margin: share of the pool that must stay free when a text is let in, so that those that run can grow.

    Attributes:
        space: the addresses.
        refused: requests for a buffer for which enough was free, but no hole large enough.
        free_then: tokens that were free then, summed.
    """

    def __init__(self, pool: int, longest: int, margin: float = 0.0) -> None:
        self.space = FirstFit(pool)
        self.peak = self.copied = self.refused = self.free_then = 0
        self._longest, self._margin = longest, round(pool * margin)
        self._buffers: dict[int, tuple[int, int]] = {}  # text → address, tokens

    @property
    def held(self) -> int:
        """See ``Allocator``."""
        return self.space.held

    def admit(self, text: int, known: int, first: int, running: int) -> bool:  # noqa: ARG002 - the protocol's
        """Where nothing runs there is nothing to keep a margin for."""
        room = self.space.size - self.held - self._buffer(known)
        return (not running or room >= self._margin) and self._take(text, known)

    def grow(self, text: int, tokens: int) -> bool:
        """See ``Allocator``."""
        start, size = self._buffers[text]
        if tokens <= size:
            return True
        if not self._take(text, tokens):
            return False
        self.copied += tokens - 1
        self.space.give_back(start, size)
        return True

    def free(self, text: int) -> None:
        """See ``Allocator``."""
        self.space.give_back(*self._buffers.pop(text))

    def _buffer(self, tokens: int) -> int:
        return min(max(LEAST, 1 << (tokens - 1).bit_length()), self._longest)

    def _take(self, text: int, tokens: int) -> bool:
        size = self._buffer(tokens)
        start = self.space.take(size)
        if start is None:
            free = self.space.size - self.held
            self.refused += free >= size
            self.free_then += free if free >= size else 0
            return False
        self._buffers[text] = (start, size)
        self.peak = max(self.peak, self.held)
        return True


class Paged:
    """Pages of 16 tokens wherever there is room, by the engine's rule of admission: the plain loop's check.

    Args:
        pool: tokens.
    """

    def __init__(self, pool: int) -> None:
        self.peak = self.copied = 0
        self._free = self._pool = pool // LEAST
        self._pages: dict[int, int] = {}

    @property
    def held(self) -> int:
        """See ``Allocator``."""
        return (self._pool - self._free) * LEAST

    def admit(self, text: int, known: int, first: int, running: int) -> bool:
        """All of the text must fit, beside a page for each that runs to go on."""
        if ceil_div(known, LEAST) + running > self._free:
            return False
        self._pages[text] = 0
        return self.grow(text, first)

    def grow(self, text: int, tokens: int) -> bool:
        """See ``Allocator``."""
        more = ceil_div(tokens, LEAST) - self._pages[text]
        if more > self._free:
            return False
        self._free -= more
        self._pages[text] += more
        self.peak = max(self.peak, self.held)
        return True

    def free(self, text: int) -> None:
        """See ``Allocator``."""
        self._free += self._pages.pop(text)
