"""The figures of one scrape: asked of the engine when they are wanted, all at the same safepoint."""

import asyncio
from contextlib import suppress
from typing import Any

from infergc.client import EngineClient, EngineDeadError

_PATIENCE = 5.0  # seconds; a step is far shorter, and Prometheus itself waits for 10


class EngineFigures:
    """The engine's figures, see ``engine.stats.figures``.

    Args:
        client: of the engine.
        patience: seconds to wait for an answer.
    """

    def __init__(self, client: EngineClient, patience: float = _PATIENCE) -> None:
        self._client = client
        self._patience = patience
        self._asked: dict[str, Any] = {}

    async def refresh(self) -> None:
        """Ask for them. What an engine that is busy too long, or gone, said before stands as it is."""
        with suppress(TimeoutError, EngineDeadError):
            async with asyncio.timeout(self._patience):
                self._asked = await self._client.ask("figures")

    @property
    def latest(self) -> dict[str, Any]:
        """The latest answer, with what the engine tells of its process beside it."""
        return {**self._client.stats, **self._asked}
