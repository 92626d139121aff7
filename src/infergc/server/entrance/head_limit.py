"""How long a request's head may be: it is held before any key can be asked for."""

from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from infergc.server.entrance.refusal import MOMENT
from infergc.server.errors import ApiError
from infergc.units import format_bytes

MOST_HEAD = 64 * 1024  # bytes of the request line and the headers, trailers included
_BETWEEN = len(b": \r\n")  # bytes of a header beside its name and its value


class HeadTooLargeError(Exception):
    """More headers came than are allowed; the parser ends with it."""


class LimitedHead(HttpToolsProtocol):
    """uvicorn's protocol, which answers 431 and closes where the head of a request is over ``MOST_HEAD`` bytes.

    The parser tells of a header when it is complete, and holds it until then: so what it has told is counted, and what
    came in without an end. At most one read beyond the limit is held. Bodies cost one comparison a read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = False  # or between the chunks of a body, and in its trailers
        self._told = 0  # bytes
        self._came = 0  # bytes, of reads in which nothing began
        self._is_refused = False

    def data_received(self, data: bytes) -> None:
        """Read on, counting; what comes after a refusal is thrown away."""
        if self._is_refused:
            return
        if self._is_in_head:
            self._came += len(data)
        super().data_received(data)
        is_over = self._is_refused or self.transport.is_closing()
        if self._is_in_head and self._came > MOST_HEAD and not is_over:
            self._refuse()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._told = 0
        self._begin()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._count(len(name) + len(value) + _BETWEEN)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head ends."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A piece of a body follows, or the trailers."""
        self._begin()

    def on_body(self, body: bytes) -> None:
        """It was a piece of a body."""
        self._is_in_head = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The trailers end."""
        self._is_in_head = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser has ended: with our error, or one of its own."""
        if self._told > MOST_HEAD:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _begin(self) -> None:
        self._is_in_head = True
        self._came = 0

    def _count(self, length: int) -> None:
        self._told += length
        if self._told > MOST_HEAD:
            raise HeadTooLargeError

    def _refuse(self) -> None:
        """Answer, unless that would stand in the middle of another answer, and close.

        Not at once: what lies unread when a connection is closed has the answer lost on its way.
        """
        self._is_refused = True
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_answer())
        self.loop.call_later(MOMENT, self.transport.close)


def _answer() -> bytes:
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    text = f"the request's head is larger than the {format_bytes(MOST_HEAD)} allowed"
    body = msgspec.json.encode(ApiError(status, text, code="head_too_large").body())
    lines = ("content-type: application/json", f"content-length: {len(body)}", "connection: close", "", "")
    return STATUS_LINE[status] + "\r\n".join(lines).encode() + body
