"""The door of a server that is to stop: those inside finish, nobody else comes in."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

from infergc.server.entrance.refusal import LEAVE
from infergc.server.errors import ApiError

SHUTTING_DOWN = "shutting_down"


class Door:
    """Counts requests to generate from their head to the last byte of their answer.

    Attributes:
        inside: how many there are.
        is_closed: whether the server is to stop.
    """

    def __init__(self) -> None:
        self.inside = 0
        self.is_closed = False
        self._bodies: set[asyncio.Timeout] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def check(self) -> None:
        """See that the door is open.

        Raises:
            ApiError: 503; the connection is to be closed with it, for a new one may lead to another server.
        """
        if self.is_closed:
            text = "the server is shutting down and takes no new requests"
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, text, code=SHUTTING_DOWN, headers=LEAVE)

    def enter(self) -> None:
        """Come in.

        Raises:
            ApiError: 503, see ``check``.
        """
        self.check()
        self.inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """Go out again: once for each ``enter``."""
        self.inside -= 1
        if not self.inside:
            self._empty.set()

    def close(self) -> None:
        """From now on nobody comes in."""
        self.is_closed = True

    @contextmanager
    def waits_for_body(self, patience: asyncio.Timeout) -> Iterator[None]:
        """For a body that is to come within a time, which ``hurry`` may end."""
        self._bodies.add(patience)
        try:
            yield
        finally:
            self._bodies.discard(patience)

    def hurry(self) -> None:
        """Bodies that are not there are waited for no longer."""
        for patience in self._bodies:
            if not patience.expired():
                patience.reschedule(0.0)

    async def emptied(self, seconds: float) -> bool:
        """Wait until nobody is inside, for so long at most; whether nobody is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        return not self.inside
