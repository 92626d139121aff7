"""Refusals after which the connection is closed."""

import asyncio
from contextlib import suppress

from starlette.types import Receive, Scope, Send

from infergc.server.errors import ApiError, error_response
from infergc.server.headers import CLOSE, retry_after

LEAVE = {**retry_after(), **CLOSE}
MOMENT = 1.0  # seconds for a body that is not wanted


async def turn_away(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error that has the headers ``LEAVE``.

    The body is thrown away before: what lies unread when a connection is closed has the answer lost on its way.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(MOMENT):
            while (await receive()).get("more_body", False):
                pass
    await error_response(error)(scope, receive, send)
