"""ASGI middleware before the routes that generate: a place in the line, or a refusal before anything else is done."""

import asyncio
from http import HTTPStatus

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infergc.client import EngineDeadError
from infergc.server.entrance.door import Door
from infergc.server.entrance.line import Line, Place
from infergc.server.entrance.refusal import turn_away
from infergc.server.errors import ApiError, as_api_error, error_response
from infergc.server.headers import CLOSE

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
GENERATING = frozenset({COMPLETIONS, CHAT})
BODY_SECONDS = 60.0  # that a client may take to send a body: until then it has a place that others want


class Gate:
    """Requests to generate get a place in the line, at ``scope["state"]["place"]``; 429 where none is left.

    503 where the server is to stop, or has no engine. Of who is refused nothing was read but the head, and what there
    is of a body is thrown away as it comes.

    Args:
        app: what comes after.
        door: of the server.
        line: see there.
        patience: seconds for the body.
    """

    def __init__(self, app: ASGIApp, door: Door, line: Line, patience: float = BODY_SECONDS) -> None:
        self.app = app
        self._door = door
        self._line = line
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with a place."""
        if scope["type"] != "http" or scope["path"] not in GENERATING or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            self._door.check()
        except ApiError as error:
            await turn_away(error, scope, receive, send)
            return
        try:
            place = self._line.enter()
        except (ApiError, EngineDeadError) as error:
            await error_response(as_api_error(error))(scope, receive, send)
            return
        scope.setdefault("state", {})["place"] = place
        self._door.enter()
        try:
            await self.app(scope, TimedBody(receive, self._door, self._patience).receive, send)
        finally:
            place.leave()
            self._door.leave()


def place_of(http: Request) -> Place:
    """The place that a request was given at the gate."""
    place: Place = http.state.place
    return place


class TimedBody:
    """A ``receive`` for which the body is to be there within a time, and before a server that stops has done so."""

    def __init__(self, receive: Receive, door: Door, patience: float) -> None:
        self._receive = receive
        self._door = door
        self._patience = patience
        self._deadline = asyncio.get_running_loop().time() + patience
        self._is_complete = False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            ApiError: 408, the time is over.
        """
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline) as patience:
                with self._door.waits_for_body(patience):
                    message = await self._receive()
        except TimeoutError:
            self._door.check()
            text = f"the request body was not complete after {self._patience:g} s"
            raise ApiError(HTTPStatus.REQUEST_TIMEOUT, text, code="body_timeout", headers=CLOSE) from None
        self._is_complete = not message.get("more_body", False)
        return message
