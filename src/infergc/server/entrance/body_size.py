"""ASGI middleware: the size and the encoding of a body."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infergc.server.errors import ApiError, error_response
from infergc.units import format_bytes
from infergc.wording import shown


class BodySize:
    """A body over ``limit`` bytes gets a 413 as soon as that is known; at most ``limit`` bytes are ever held.

    A compressed one gets a 415, since nothing here would unpack it.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counting."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if refused := self._refused(Headers(scope=scope)):
            await error_response(refused)(scope, receive, send)
            return
        await self.app(scope, _Counted(receive, self.limit).receive, send)

    def _refused(self, headers: Headers) -> ApiError | None:
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.limit:
            return _too_large(self.limit)
        encoding = headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            message = f"Content-Encoding: {shown(encoding)} is not taken; send the body as it is"
            return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, code="unsupported_encoding")
        return None


def _too_large(limit: int) -> ApiError:
    message = f"the request body is larger than the {format_bytes(limit)} allowed (--max-body-size)"
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, code="request_too_large")


class _Counted:
    """A ``receive`` that counts."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._left = limit

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_large(self._limit)
        return message
