"""An engine behind a client that has come to rest, and its figures then."""

import asyncio
from typing import Any

from infergc.client import EngineClient
from samples.servers import PATIENCE

_ALIKE = 3  # looks in a row


async def at_rest(client: EngineClient) -> dict[str, Any]:
    """The engine's figures once no request is open and no page changes its state any more."""
    async with asyncio.timeout(PATIENCE):
        while client.open_requests:
            await asyncio.sleep(0.01)
        looks: list[dict[str, Any]] = []
        while len(looks) < _ALIKE or any(kv_of(look) != kv_of(looks[-1]) for look in looks[-_ALIKE:]):
            await asyncio.sleep(0.05)
            looks.append(await client.ask("figures"))
    return looks[-1]


def kv_of(figures: dict[str, Any]) -> dict[str, int]:
    """Pages of the only layer group, by state."""
    (group,) = figures["kv"].values()
    return dict(group)
