"""Work that ends when the client goes away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_Result = TypeVar("_Result")


class ClientGoneError(Exception):
    """The client closed the connection before its answer was ready."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run ``work``, cancelling it when the client disconnects. The request's body must have been read.

    Raises:
        ClientGoneError: the client went first; ``work`` has ended by then.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        await _end(task)
        await _end(watch)


class EventStream(Response):
    """Server-sent events; ``close`` is called at the end, whoever ends it, and ``left`` before it if the client does.

    The source is not read while the connection's buffer is full, so a slow client holds back only itself.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[bytes], close: Callable[[], None], left: Callable[[], None]) -> None:
        self._frames = frames
        self._close = close
        self._left = left
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send, until the end or until the client goes."""
        try:
            await unless_gone(receive, self._send(send))
        except ClientGoneError:
            self._left()  # nobody is there to be told
        finally:
            self._close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for frame in self._frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: "asyncio.Future[Any]") -> None:
    """Cancel what still runs and wait for it to have let go of what it holds."""
    if task.done():
        if not task.cancelled():
            task.exception()  # seen: no "never retrieved" in the log
        return
    task.cancel()
    await asyncio.wait((task,))
