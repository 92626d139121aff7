"""How long answers are waited for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Patience:
    """A bound on the time that each of several waits may take; it may be shortened while they last.

    Args:
        seconds: see the attribute.

    Attributes:
        seconds: that a wait which begins now may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def bound(self) -> AsyncIterator[None]:
        """A block in which something is waited for.

        Raises:
            TimeoutError: the time is over.
        """
        async with asyncio.timeout(self.seconds) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)

    def shorten(self, seconds: float) -> None:
        """From now on waits take so long at most, and so do those that have begun."""
        self.seconds = min(self.seconds, seconds)
        ends = asyncio.get_running_loop().time() + self.seconds
        for wait in self._waits:
            due = wait.when()
            if not wait.expired() and (due is None or due > ends):
                wait.reschedule(ends)
