"""How many connections there may be, and what is said on one too many."""

import resource
from collections.abc import Sized
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from infergc.server.entrance.paths import WATCHED_PATHS
from infergc.server.entrance.refusal import LEAVE, turn_away
from infergc.server.errors import ApiError

_OTHER_FILES = 256  # that the server has open beside connections, at most


class Crowd:
    """While there are more connections than ``most``, requests get 503 and their connection is closed.

    Probes and ``/metrics`` are answered all the same: load is no illness, and who watches is not to lose
    sight of it. A connection without a request costs 11 KiB and a file, and stays.

    Args:
        app: what comes after.
        most: see above.

    Attributes:
        connections: that are open.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.connections: Sized = ()
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what has room."""
        if len(self.connections) <= self._most or scope["type"] != "http" or scope["path"] in WATCHED_PATHS:
            await self.app(scope, receive, send)
            return
        text = f"the server has more than {self._most} connections (--max-connections); try again in 1 s"
        error = ApiError(HTTPStatus.SERVICE_UNAVAILABLE, text, code="too_many_connections", headers=LEAVE)
        await turn_away(error, scope, receive, send)


def allow_files(connections: int) -> None:
    """Let this process have as many files open as that takes, as far as the system lets it (``ulimit -Hn``).

    At the usual 1,024 a full server could not even be asked how it is.
    """
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
