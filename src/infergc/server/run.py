"""A server's life: bind, start the engine, serve, and stop when told to."""

import asyncio
import errno
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn

from infergc.client import EngineClient
from infergc.config import EngineConfig
from infergc.engine.messages import Ready
from infergc.server.app import create_app
from infergc.server.observing import observing
from infergc.server.settings import ServerSettings
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer
from infergc.wording import counted

_KEEP_ALIVE = 75  # seconds; longer than clients keep idle connections, so that they close first
_LAST_WORDS = 5  # seconds that aborted requests have to tell their clients so
_BACKLOG = 2048

_Result = TypeVar("_Result")


async def run_server(
    config: EngineConfig,
    settings: ServerSettings,
    announce: Callable[[Ready, str], None],
    say: Callable[[str], None],
) -> bool:
    """Serve until SIGINT or SIGTERM; returns whether the engine lived until then.

    Args:
        config: the engine's.
        settings: the server's.
        announce: is called when the port answers.
        say: is called with what the operator should know meanwhile.

    Running requests may then go on for the shutdown timeout and are aborted after it, or at a second signal.

    Raises:
        OSError: the address cannot be listened on, the request log not written, or the model's files not read.
        ValueError: the model's files are not what they should be.
        EngineStartError: the engine could not start.
    """
    with (
        _listen(settings.host, settings.port) as listener,
        _stop_signals() as stop,
        observing(settings, say) as observers,
    ):
        say(f"Loading {settings.model_name} …")
        tokenizer = Tokenizer.load(config.model)
        template = ChatTemplate.load(config.model, settings.chat_template)
        client = await _unless(stop, EngineClient.start(config))
        if client is None:
            return True
        try:
            app = create_app(client, tokenizer, template, settings, observers)
            server = _Server(_uvicorn(app, settings))
            serving = asyncio.ensure_future(server.serve([listener]))
            stopping = asyncio.ensure_future(_stop_gently(stop, server, client, settings.shutdown_timeout, say))
            watching = asyncio.ensure_future(_report_death(client, say))
            timing = asyncio.ensure_future(app.state.sessions.run())
            with _frozen():
                announce(client.ready, _url(listener))
                await serving
            stopping.cancel()
            watching.cancel()
            timing.cancel()
            return client.healthy
        finally:
            await client.close()


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


def _uvicorn(app: Any, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.shutdown_timeout) + _LAST_WORDS,
    )


class _Stop:
    """Counts the signals that asked the server to stop."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def ask(self) -> None:
        """A signal came."""
        if self.asked.is_set():
            self.insisted.set()
        self.asked.set()


async def _report_death(client: EngineClient, say: Callable[[str], None]) -> None:
    if death := await client.gone():
        say(f"Error: {death}; requests get 503 until the server is restarted")


async def _stop_gently(
    stop: _Stop, server: uvicorn.Server, client: EngineClient, timeout: float, say: Callable[[str], None]
) -> None:
    await stop.asked.wait()
    if count := client.open_requests:
        say(f"Stopping; {counted(count, 'request')} may go on for up to {timeout:g} s, or until a second Ctrl-C")
    server.should_exit = True
    try:
        async with asyncio.timeout(timeout):
            await stop.insisted.wait()
    except TimeoutError:
        pass
    client.abort_all()


async def _unless(stop: _Stop, work: Coroutine[Any, Any, _Result]) -> _Result | None:
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


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop = _Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.ask)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


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
