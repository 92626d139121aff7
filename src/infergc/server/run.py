"""A server's life: bind, start the engine, serve, and stop when told to."""

import asyncio
import errno
import gc
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp

from infergc.client import EngineSupervisor, RestartBudget
from infergc.client.grammars import GrammarProcess
from infergc.config import EngineConfig
from infergc.engine.messages import Ready
from infergc.server.app import create_app
from infergc.server.entrance.crowd import Crowd, allow_files
from infergc.server.entrance.head_limit import LimitedHead
from infergc.server.observing.observed import Observed
from infergc.server.observing.observers import observing
from infergc.server.public_texts import PublicTexts
from infergc.server.settings import ServerSettings
from infergc.server.stopping import LAST_WORDS, Stop, stop_gently, stop_signals
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer

_KEEP_ALIVE = 75  # seconds; longer than clients keep idle connections, so that they close first
_BACKLOG = 2048

_Result = TypeVar("_Result")


async def run_server(
    config: EngineConfig,
    settings: ServerSettings,
    announce: Callable[[Ready, str], None],
    say: Callable[[str], None],
) -> bool:
    """Serve until SIGINT or SIGTERM; False where it ends because engines died again and again.

    Args:
        config: the engine's.
        settings: the server's.
        announce: is called when the port answers.
        say: is called with what the operator should know meanwhile.

    How it stops: ``stopping.stop_gently``.

    Raises:
        ConfigError: what a flag names is not what it should be: a public text, the request log, where traces go.
        OSError: the address cannot be listened on, or the model's files not read.
        ValueError: the model's files are not what they should be.
        EngineStartError: the engine could not start.
    """
    allow_files(settings.max_connections)
    with (
        _listen(settings.host, settings.port) as listener,
        stop_signals() as stop,
        observing(settings, say) as observers,
    ):
        say(f"Loading {settings.model_name} …")
        tokenizer = Tokenizer.load(config.model)
        template = ChatTemplate.load(config.model, settings.chat_template)
        public = PublicTexts.load(settings.public_prefixes, tokenizer, template, config.block_size)
        engine = await _unless(stop, _engine(config, settings, say))
        if engine is None:
            return True
        stop.kill = engine.kill
        grammars = GrammarProcess(engine.ready.vocab_size)
        try:
            app = create_app(engine, tokenizer, template, settings, public, grammars)
            crowd = Crowd(app, settings.max_connections)
            server = _Server(_uvicorn(Observed(crowd, observers)))
            crowd.connections = server.server_state.connections
            ending = stop_gently(stop, app.state.door, engine, grammars, settings.shutdown_timeout, say)
            stopping = asyncio.ensure_future(ending)
            stopping.add_done_callback(lambda _: server.leave())
            timing = asyncio.ensure_future(app.state.sessions.run())
            with _frozen():
                announce(engine.ready, _url(listener))
                await server.serve([listener])
            await stopping
            timing.cancel()
            return not engine.has_given_up
        finally:
            await grammars.close()
            await engine.close()


async def _engine(config: EngineConfig, settings: ServerSettings, say: Callable[[str], None]) -> EngineSupervisor:
    return await EngineSupervisor.start(
        config,
        RestartBudget(settings.max_engine_restarts),
        settings.stuck_timeout,
        kills_stuck=settings.restart_stuck_engine,
        say=say,
    )


@contextmanager
def _frozen() -> Iterator[None]:
    """Full collections of Python's leave out what the start has left: else they stop the server for 100 ms each."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal instead of exit code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    def leave(self) -> None:
        """Close the listener, and each connection once its answer is on its way; those left after a moment anyhow."""
        self.should_exit = True
        asyncio.get_running_loop().call_later(LAST_WORDS, self._hang_up)

    def _hang_up(self) -> None:
        """For who does not read, or has not sent all. uvicorn would cancel their tasks, and report each as a fault."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _uvicorn(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=LimitedHead,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=2 * int(LAST_WORDS),
    )


async def _unless(stop: Stop, work: Coroutine[Any, Any, _Result]) -> _Result | None:
    """The result of ``work``, or None if the stop comes first and cancels it."""
    task = asyncio.ensure_future(work)
    asked = asyncio.ensure_future(stop.asked.wait())
    await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait((task,))
    return None


def _listen(host: str, port: int) -> socket.socket:
    """Bind before the model is loaded: a port in use should not cost a minute to find out."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise OSError(f"--host: {host!r} is not an address of this machine ({error.strerror})") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        if error.errno == errno.EADDRINUSE:
            reason += "; choose another with --port, or --port 0 for any free one"
        raise OSError(f"--host, --port: cannot listen on {host}:{port}: {reason}") from error
    # Connections inherit it. asyncio sets it on none of them, since this socket does not say that its protocol is TCP;
    # and without it what follows the head of an answer, or a token, waits for the client's delayed ACK: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
