"""The figures of one scrape: asked of the engine when they are wanted, all at the same safepoint."""

import asyncio
from contextlib import suppress
from typing import Any

from infergc.client import EngineDeadError, EngineStuckError, EngineSupervisor
from infergc.engine.messages import Ready

_PATIENCE = 5.0  # seconds; a step is far shorter, and Prometheus itself waits for 10


class EngineFigures:
    """The engine's figures, see ``engine.stats.figures``.

    Args:
        client: of the engine.
        patience: seconds to wait for an answer.
    """

    def __init__(self, client: EngineSupervisor, patience: float = _PATIENCE) -> None:
        self._client = client
        self._patience = patience
        self._asked: dict[str, Any] = {}
        self._of = -1  # the engine that was asked, by the number of restarts

    async def refresh(self) -> None:
        """Ask for them. What an engine that is busy too long said before stands as it is."""
        with suppress(TimeoutError, EngineDeadError, EngineStuckError):
            async with asyncio.timeout(self._patience):
                asked = await self._client.ask("figures")
                self._asked, self._of = asked, self._client.restarts

    @property
    def ready(self) -> Ready:
        """What the engine that runs, or ran last, serves and holds in memory."""
        return self._client.ready

    @property
    def latest(self) -> dict[str, Any]:
        """The latest answer, with what the engine tells of its process beside it; nothing of an engine that is gone."""
        client = self._client
        return {**client.stats, **(self._asked if client.healthy and self._of == client.restarts else {})}
