"""The application: routes, errors and limits put together."""

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from infergc import __version__
from infergc.client import EngineSupervisor
from infergc.client.grammars import GrammarProcess
from infergc.server import errors
from infergc.server.description import DescribedApp
from infergc.server.entrance.body_size import BodySize
from infergc.server.entrance.door import Door
from infergc.server.entrance.gate import Gate
from infergc.server.entrance.head_requests import Head
from infergc.server.entrance.keys import Keys
from infergc.server.entrance.line import Line
from infergc.server.entrance.tenants import Keyring
from infergc.server.entrance.token_limit import TokenLimit
from infergc.server.metrics import EngineCollector, EngineFigures, Latencies, LifeCollector, LineCollector
from infergc.server.public_texts import PublicTexts
from infergc.server.routes.admin import admin_router
from infergc.server.routes.completions import completions_router
from infergc.server.routes.health import health_router
from infergc.server.routes.sessions import SessionClock, sessions_router
from infergc.server.routes.state import metrics_router, state_router
from infergc.server.routes.tokens import tokens_router
from infergc.server.service import Service
from infergc.server.settings import ServerSettings
from infergc.server.tools.turn import ToolSupport
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer


def create_app(
    client: EngineSupervisor,
    tokenizer: Tokenizer,
    chat_template: ChatTemplate,
    settings: ServerSettings,
    public: PublicTexts,
    grammars: GrammarProcess,
) -> FastAPI:
    """The HTTP application over a running engine. It starts and ends nothing."""
    registry = CollectorRegistry()
    figures = EngineFigures(client)
    registry.register(EngineCollector(figures, settings.model_name))
    latencies = Latencies(registry, settings.model_name)
    sessions = SessionClock(client, settings.session_timeout, client.config.max_sessions)
    line = Line(client, settings.max_num_queued_reqs)
    registry.register(LineCollector(line))
    registry.register(LifeCollector(client))
    door = Door()
    tools = ToolSupport(settings.tool_call_parser, chat_template, tokenizer)
    service = Service(client, tokenizer, chat_template, settings, latencies, sessions, line, tools, public, grammars)
    app = DescribedApp(
        title="Infer-GC", version=__version__, docs_url=None, redoc_url=None, is_keyed=bool(settings.api_keys),
        redirect_slashes=False,  # a path that is not there is not found: a POST would lose its body on the way
    )  # fmt: skip
    app.state.sessions, app.state.door = sessions, door
    errors.install(app)
    app.include_router(completions_router(service))
    app.include_router(tokens_router(service))
    app.include_router(state_router(service))
    app.include_router(health_router(client, door))
    app.include_router(metrics_router(registry, figures))
    app.include_router(sessions_router(sessions))
    if settings.admin_key is not None:
        app.include_router(admin_router(client, sessions))
    app.add_api_route("/", lambda: _paths(app), include_in_schema=False)
    app.add_middleware(BodySize, limit=settings.max_body_bytes)
    app.add_middleware(Gate, door=door, line=line)
    app.add_middleware(TokenLimit, door=door)
    if settings.api_keys or settings.admin_key is not None:
        app.add_middleware(Keys, keys=Keyring(settings.api_keys), admin_key=settings.admin_key)
    app.add_middleware(Head)  # the last added is the outermost
    return app


def _paths(app: FastAPI) -> list[str]:
    """What there is, as ``POST /v1/completions``; /openapi.json says more."""
    return [f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods]
