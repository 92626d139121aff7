"""How much structure a request's JSON may have: to read it costs memory and time by its values, not bytes alone."""

import re
from collections.abc import Callable, Coroutine, Sequence
from itertools import accumulate
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from infergc.server.errors import TOO_COMPLEX, bad_request

MOST_DEPTH = 64  # objects and lists in one another
MOST_CONTAINERS = 16_384  # objects and lists
MOST_FIELDS = 16_384  # of all objects together

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # an unended one, too: so the search is linear
_OPENERS, _COLON = (b"[", b"{"), (b":",)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(":"): 0}
_REST = bytes(set(range(256)) - set(_STEPS))


class LimitedRoute(APIRoute):
    """A route whose JSON body is looked at before it is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, for a request that looks first."""
        handle = super().get_route_handler()

        async def handle_limited(request: Request) -> Response:
            return await handle(_LimitedRequest(request.scope, request.receive))

        return handle_limited


class _LimitedRequest(Request):
    async def json(self) -> Any:
        """The body, read.

        Raises:
            ApiError: 400, it has too much structure.
        """
        if words := excess([await self.body()]):
            raise bad_request(f"the body has {words}", code=TOO_COMPLEX)
        return await super().json()


def excess(texts: Sequence[bytes]) -> str | None:
    """What there is too much of in JSON texts, valid or not: more than any request needs; None if all is well.

    Objects, lists and fields are counted over all texts together.
    Cost: one pass that counts, and where strings would be counted too, one that leaves them out: O(bytes).
    """
    opened, colons = (sum(_seen(text, *kinds) for text in texts) for kinds in (_OPENERS, _COLON))
    if opened <= MOST_DEPTH and colons <= MOST_FIELDS:
        return None
    marks = [_STRING.sub(b"", text).translate(None, _REST) for text in texts]
    containers, fields = (sum(_seen(text, *kinds) for text in marks) for kinds in (_OPENERS, _COLON))
    if fields > MOST_FIELDS:
        return _words(fields, "fields", MOST_FIELDS)
    if containers > MOST_CONTAINERS:
        return _words(containers, "objects and lists", MOST_CONTAINERS)
    if sum(map(len, marks)) > 2 * (MOST_FIELDS + MOST_CONTAINERS):
        return None  # far more is closed than was opened: the parser says where
    depth = max(map(_depth, marks), default=0)
    return _words(depth, "objects and lists in one another", MOST_DEPTH) if depth > MOST_DEPTH else None


def _seen(text: bytes, *marks: bytes) -> int:
    return sum(map(text.count, marks))


def _depth(marks: bytes) -> int:
    return max(accumulate(_STEPS[mark] for mark in marks), default=0)


def _words(count: int, what: str, most: int) -> str:
    return f"{count} {what}; at most {most} are allowed"
