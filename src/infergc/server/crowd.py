"""ASGI middleware before routes that work without the engine: so many requests at once, and no more."""

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from infergc.server.errors import ApiError, error_response
from infergc.server.gate import BODY_SECONDS, TimedBody

TOKENISING = frozenset({"/tokenize", "/detokenize"})
MOST_TOKENISING = 16  # each holds a body and what is made of it


class Crowd:
    """Of requests to tokenise, ``most`` are taken at once; others get 429 before anything of them is read.

    Args:
        app: what comes after.
        most: see above.
        patience: seconds for a body.
    """

    def __init__(self, app: ASGIApp, most: int = MOST_TOKENISING, patience: float = BODY_SECONDS) -> None:
        self.app = app
        self._most = most
        self._patience = patience
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counted."""
        if scope["type"] != "http" or scope["path"] not in TOKENISING or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if self._inside >= self._most:
            message = f"{self._inside} requests are being tokenised, as many as are allowed at once; try again in 1 s"
            error = ApiError(HTTPStatus.TOO_MANY_REQUESTS, message, code="too_many_requests")
            await error_response(error, {"retry-after": "1"})(scope, receive, send)
            return
        self._inside += 1
        try:
            await self.app(scope, TimedBody(receive, self._patience).receive, send)
        finally:
            self._inside -= 1
