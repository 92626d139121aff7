"""GET /health, /health/ready and /health/live: whether to send requests here, and whether to start the server anew."""

from typing import Any

from fastapi import APIRouter

from infergc.client import EngineSupervisor
from infergc.server.entrance.door import Door


def health_router(engine: EngineSupervisor, door: Door) -> APIRouter:
    """The routes. Load changes none of their answers: who is too many is told so with 429."""
    router = APIRouter(tags=["state"])

    @router.get("/health")
    @router.get("/health/ready")
    async def ready() -> dict[str, Any]:
        """200 while requests are served; else 503 and why: no engine, a stuck one, or a server that is to stop."""
        door.check()
        engine.check_moving()
        return {"status": "ready"}

    @router.get("/health/live")
    async def live() -> dict[str, Any]:
        """200 as long as the server itself answers: what is wrong with its engine it mends by itself, or ends."""
        return {"status": "live"}

    return router
