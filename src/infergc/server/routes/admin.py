"""For who has the admin key: GET /v1/kv/heap, its verification, and settings that change while the server runs."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, ValidationError

from infergc.client import EngineSupervisor
from infergc.client.prepare import INVALID_VALUE
from infergc.config import EngineConfig
from infergc.params import ParameterError, check_number
from infergc.server.answers.disconnect import unless_gone
from infergc.server.errors import bad_request
from infergc.server.requests.bounds import tell_flag_bounds
from infergc.server.routes.sessions import SessionClock
from infergc.server.settings import LEAST_SESSION_TIMEOUT, MOST_SECONDS
from infergc.wording import fault


class HeapSettings(BaseModel):
    """Body of PATCH /v1/kv/heap/settings: what to change, by the names of the flags. A field that is null is left."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, json_schema_extra=tell_flag_bounds)

    gc_step_us: float | None = None
    gc_idle_us: float | None = None
    gc_minor_pages: int | None = None
    gc_major_pages: int | None = None
    gc_watermark: float | None = None
    gc_target_free: float | None = None
    gc_young_steps: int | None = None
    gc_survivor_steps: int | None = None
    gc_tenured_steps: int | None = None
    compaction_budget: int | None = None
    max_sessions: int | None = None
    pin_budget: float | None = None
    session_timeout: float | None = None


class Verification(BaseModel):
    """What a recount found, and how many heap objects it freed."""

    found: str
    freed_objects: int


def admin_router(client: EngineSupervisor, clock: SessionClock) -> APIRouter:
    """The routes. They ask for no key: ``limits.Keys`` does, before anything of a request is read."""
    router = APIRouter(prefix="/v1/kv", tags=["heap"])

    @router.get("/heap")
    async def heap(http: Request) -> dict[str, Any]:
        """Who holds what: pages by state and generation, objects, work in flight, the prefix tree."""
        return dict(await unless_gone(http.receive, client.ask("heap")))

    @router.post("/heap/verify")
    async def verify(http: Request) -> Verification:
        """Recount every reference, mend what is wrong and check the laws; "found" is "" when all is well.

        Beside it "freed_objects": how many heap objects went that nothing outside their cycles held.
        """
        return Verification(**await unless_gone(http.receive, client.ask("verification")))

    @router.get("/heap/settings")
    async def settings() -> dict[str, Any]:
        """All settings that can be changed, as they are."""
        return await _change(client, clock, {})

    @router.patch("/heap/settings")
    async def change(body: HeapSettings) -> dict[str, Any]:
        """Change settings, all or none, and give all as they are now. They last until the server ends."""
        return await _change(client, clock, body.model_dump(exclude_none=True))

    return router


async def _change(client: EngineSupervisor, clock: SessionClock, settings: dict[str, Any]) -> dict[str, Any]:
    timeout = settings.pop("session_timeout", None)
    if timeout is not None:
        check_number("session_timeout", timeout, LEAST_SESSION_TIMEOUT, MOST_SECONDS)
    _check(client.config, settings)
    try:
        values = await client.ask("settings", **settings)
    except ValueError as error:
        message = str(error).removeprefix("settings: ")
        raise bad_request(message, param=message.partition(" ")[0], code=INVALID_VALUE) from None
    clock.most = values["max_sessions"]
    if timeout is not None:  # it may have been changed meanwhile
        clock.timeout = timeout
    return {**values, "session_timeout": clock.timeout}


def _check(config: EngineConfig, settings: dict[str, Any]) -> None:
    """The bounds are those of the flags.

    Raises:
        ParameterError: naming the first field that breaks them.
    """
    try:
        EngineConfig(**{**config.model_dump(), **settings})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        raise ParameterError(name, fault(problem, EngineConfig.model_fields[name].metadata)) from None
