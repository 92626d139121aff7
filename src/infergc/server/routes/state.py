"""GET /version, /metrics and /v1/models."""

from time import time
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from infergc import __version__
from infergc.server.metrics import EngineFigures, render
from infergc.server.service import Service


class Version(BaseModel):
    """The server's version."""

    version: str


class Model(BaseModel):
    """A model that is served; ``max_model_len`` is its context, in tokens."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "infergc"
    root: str
    max_model_len: int


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[Model]


def state_router(service: Service) -> APIRouter:
    """The routes that say what the server is."""
    router = APIRouter(tags=["state"])
    created = int(time())

    def served() -> Model:
        """As the engine has it that runs now: another may have room for less."""
        client = service.client
        length = client.ready.max_model_len
        return Model(
            id=service.settings.model_name, created=created, root=str(client.config.model), max_model_len=length
        )

    @router.get("/version")
    async def version() -> Version:
        """The version of infergc."""
        return Version(version=__version__)

    @router.get("/v1/models")
    async def models() -> ModelList:
        """The one model that is served."""
        return ModelList(data=[served()])

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Model:
        """The model of this name."""
        service.check_model(name)
        return served()

    return router


def metrics_router(registry: CollectorRegistry, figures: EngineFigures) -> APIRouter:
    """The route of Prometheus; what it shows of the engine is asked for each scrape."""
    router = APIRouter(tags=["state"])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(http: Request) -> Response:
        """Prometheus metrics."""
        await figures.refresh()
        content, content_type = render(registry, http.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    return router
