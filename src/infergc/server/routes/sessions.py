"""Sessions: DELETE /v1/sessions/{session_id}, and the time-out of those that nobody uses."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from time import monotonic
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from infergc.client import EngineDeadError, EngineStuckError, EngineSupervisor
from infergc.server.answers.disconnect import unless_gone
from infergc.server.entrance.tenants import tenant_of
from infergc.server.errors import ApiError
from infergc.wording import shown

_log = logging.getLogger(__name__)

Key = tuple[str, str]  # tenant's salt, name
_LOOKS = 10  # a time-out


class SessionClock:
    """Closes sessions that were not used for a time. The engine knows no clock.

    Attributes:
        most: sessions that the engine keeps open. It may change at any time.

    Args:
        client: of the engine.
        timeout: see the attribute.
        most: see above.
        now: a clock, in seconds.
    """

    def __init__(
        self, client: EngineSupervisor, timeout: float, most: int, now: Callable[[], float] = monotonic
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._changed = asyncio.Event()
        self.most = most
        self._now = now
        self._used: dict[Key, float] = {}  # the least recently used first

    @property
    def timeout(self) -> float:
        """Seconds without a request of the session, waiting or running. It may be changed, and holds at once."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds
        self._changed.set()

    def touch(self, salt: str, session: str) -> None:
        """A request of this session came, or is over, or its client left. Cost: O(1).

        Beyond as many as the engine keeps open, the least recently used name goes: the engine has closed that session,
        or it has a request, whose end is told here.
        """
        if session:
            self._used.pop((salt, session), None)
            self._used[salt, session] = self._now()
            while len(self._used) > self.most:
                del self._used[next(iter(self._used))]

    async def close(self, salt: str, session: str) -> bool:
        """Close a session because a client asks for it; False if it is not open."""
        self._used.pop((salt, session), None)
        return await self._client.close_session(session, salt) == "closed"

    async def run(self) -> None:
        """Close what is idle, again and again. An engine that was started again has none of these sessions open."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._timeout / _LOOKS)
            self._changed.clear()
            with suppress(EngineDeadError, EngineStuckError):
                await self.close_idle()

    async def close_idle(self) -> None:
        """Close the sessions whose time is over. One of which a request still waits or runs is not idle.

        Raises:
            EngineDeadError: there is no engine.
            EngineStuckError: it does not answer. What else goes wrong concerns one session: it is logged, and that
                session's time begins anew.
        """
        for salt, session in list(self._used):
            used = self._used.get((salt, session), self._now())  # now: others were waited for meanwhile
            if self._now() - used < self._timeout:
                continue
            if await self._stays(salt, session):
                self.touch(salt, session)
            elif self._used.get((salt, session)) == used:
                del self._used[salt, session]

    async def _stays(self, salt: str, session: str) -> bool:
        """Ask the engine to close a session that is idle; returns whether it may still be open."""
        try:
            return await self._client.close_session(session, salt, "idle") == "busy"
        except (EngineDeadError, EngineStuckError):
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the other sessions' time goes on
            _log.exception("session %s could not be closed; next try in %g s", shown(session), self._timeout)
            return True


class Deleted(BaseModel):
    """A session that is closed."""

    id: str
    object: Literal["session"] = "session"
    deleted: Literal[True] = True


def sessions_router(clock: SessionClock) -> APIRouter:
    """The routes of sessions."""
    router = APIRouter(prefix="/v1", tags=["sessions"])

    @router.delete("/sessions/{session_id:path}")
    async def delete(session_id: str, http: Request, cache_salt: str = "") -> Deleted:
        """Close a session: its KV may be reclaimed. Requests of it that run go on."""
        closing = clock.close(tenant_of(http).salt(cache_salt), session_id)
        if not await unless_gone(http.receive, closing):
            raise ApiError(
                HTTPStatus.NOT_FOUND,
                f"session_id: {shown(session_id)} is not open",
                param="session_id",
                code="session_not_found",
            )
        return Deleted(id=session_id)

    return router
