"""GET /version, /metrics and /v1/models."""

from time import time
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry

from infergc import __version__
from infergc.server.metrics import EngineFigures, render
from infergc.server.service import Service


def state_router(service: Service) -> APIRouter:
    """The routes that say what the server is."""
    router = APIRouter(tags=["state"])
    model = {
        "id": service.settings.model_name,
        "object": "model",
        "created": int(time()),
        "owned_by": "infergc",
        "root": str(service.client.config.model),
        "max_model_len": service.client.ready.max_model_len,
    }

    @router.get("/version")
    async def version() -> dict[str, str]:
        """The version of infergc."""
        return {"version": __version__}

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model that is served."""
        return {"object": "list", "data": [model]}

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        """The model of this name."""
        service.check_model(name)
        return model

    return router


def metrics_router(registry: CollectorRegistry, figures: EngineFigures) -> APIRouter:
    """The route of Prometheus; what it shows of the engine is asked for each scrape."""
    router = APIRouter(tags=["state"])

    @router.get("/metrics")
    async def metrics(http: Request) -> Response:
        """Prometheus metrics."""
        await figures.refresh()
        content, content_type = render(registry, http.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    return router
