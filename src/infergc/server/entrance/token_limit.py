"""ASGI middleware before the routes between text and ids: so many requests at once, and no more."""

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from infergc.server.entrance.door import Door
from infergc.server.entrance.gate import BODY_SECONDS, TimedBody
from infergc.server.errors import ApiError, error_response
from infergc.server.headers import retry_after

TOKENISING = frozenset({"/tokenize", "/detokenize"})
MOST_TOKENISING = 16  # each holds a body and what is made of it


class TokenLimit:
    """Of requests to tokenise, ``most`` are taken at once; others get 429 before anything of them is read.

    Args:
        app: what comes after.
        door: of the server.
        most: see above.
        patience: seconds for a body.
    """

    def __init__(self, app: ASGIApp, door: Door, most: int = MOST_TOKENISING, patience: float = BODY_SECONDS) -> None:
        self.app = app
        self._door = door
        self._most = most
        self._patience = patience
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counted."""
        if scope["type"] != "http" or scope["path"] not in TOKENISING or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if self._inside >= self._most:
            text = f"{self._inside} texts are being tokenised, as many as are allowed at once; try again in 1 s"
            error = ApiError(HTTPStatus.TOO_MANY_REQUESTS, text, code="too_many_requests", headers=retry_after())
            await error_response(error)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self.app(scope, TimedBody(receive, self._door, self._patience).receive, send)
        finally:
            self._inside -= 1
