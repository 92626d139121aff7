"""What stands around the whole app: names each request, keeps a record of it, and tells observers of its end."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TypeAlias
from uuid import uuid4

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infergc.server.entrance.paths import WATCHED_PATHS
from infergc.server.errors import SERVER_ERROR
from infergc.server.observing.record import Record

REQUEST_ID = "x-request-id"
MOST_ID = 128  # characters
Observer: TypeAlias = Callable[[Record], None]


class Observed:
    """Answers carry the request's ``x-request-id``, or a new one; when one is over, each observer hears of it once.

    Of probes, which come every few seconds, they hear where these fail.

    Args:
        app: what comes after; it finds the record at ``scope["state"]["record"]``.
        observers: are called in the event loop and must not raise.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer] = ()) -> None:
        self.app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, watching the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = Record.begin(scope, headers, _name(headers.get(REQUEST_ID, "")))
        scope.setdefault("state", {})["record"] = record

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = record.request_id
                record.status = message["status"]
            elif record.status >= HTTPStatus.BAD_REQUEST and not record.error:
                _note(record, message["body"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except BaseException:
            record.error = record.error or SERVER_ERROR
            record.status = record.status or HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            record.end(scope["state"].get("tenant"))
            self._tell(record)

    def _tell(self, record: Record) -> None:
        if record.path not in WATCHED_PATHS or record.error:
            for observer in self._observers:
                observer(record)


def _name(sent: str) -> str:
    """What the client calls its request, if that is fit for a header and a log."""
    is_fit = 0 < len(sent) <= MOST_ID and sent.isascii() and sent.isprintable()
    return sent if is_fit else uuid4().hex


class _Error(msgspec.Struct):
    type: str
    code: str | None = None
    param: str | None = None


class _Told(msgspec.Struct):
    error: _Error


_told = msgspec.json.Decoder(_Told)


def _note(record: Record, body: bytes) -> None:
    """Note what the client is told. Whoever refuses a request writes the body; here all of them come past."""
    try:
        error = _told.decode(body).error
    except msgspec.DecodeError:
        record.error = str(record.status)
    else:
        record.error, record.param = error.code or error.type, error.param
