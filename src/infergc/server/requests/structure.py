"""How much structure a JSON body may have: to read it costs memory and time by its values, not by its bytes alone."""

import re
from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from infergc.server.errors import bad_request

MOST_DEPTH = 64  # objects and lists in one another
MOST_CONTAINERS = 16_384  # objects and lists
MOST_FIELDS = 16_384  # of all objects together

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # an unended one, too: so the search is linear
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(":"): 0}
_REST = bytes(set(range(256)) - set(_STEPS))
_TOO_COMPLEX = "body_too_complex"


class BoundedRoute(APIRoute):
    """A route whose JSON body is looked at before it is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, for a request that looks first."""
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            return await handle(_BoundedRequest(request.scope, request.receive))

        return handle_bounded


class _BoundedRequest(Request):
    async def json(self) -> Any:
        """The body, read.

        Raises:
            ApiError: 400, it has too much structure.
        """
        check_structure(await self.body())
        return await super().json()


def check_structure(body: bytes) -> None:
    """Refuse a body of more objects, lists or fields than any request needs, valid JSON or not.

    Cost: one pass that counts, and where strings would be counted too, one that leaves them out: O(bytes).

    Raises:
        ApiError: 400, naming what there is too much of.
    """
    if body.count(b"[") + body.count(b"{") <= MOST_DEPTH and body.count(b":") <= MOST_FIELDS:
        return
    marks = _STRING.sub(b"", body).translate(None, _REST)
    fields = marks.count(b":")
    containers = marks.count(b"[") + marks.count(b"{")
    _check("fields", fields, MOST_FIELDS)
    _check("objects and lists", containers, MOST_CONTAINERS)
    if len(marks) > 2 * (MOST_FIELDS + MOST_CONTAINERS):
        return  # far more is closed than was opened: the parser says where
    _check("objects and lists in one another", max(accumulate(_STEPS[mark] for mark in marks), default=0), MOST_DEPTH)


def _check(what: str, count: int, most: int) -> None:
    if count > most:
        raise bad_request(f"the body has {count} {what}; at most {most} are allowed", code=_TOO_COMPLEX)
