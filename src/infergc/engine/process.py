"""The engine as its own process: ``python -m infergc.engine.process FD CONFIG``.

FD is an inherited socket to the client, CONFIG the engine's configuration as JSON. The first message out is
``Ready``; if the engine could not start, it says why and the exit code is 1. The process lives as long as
the socket: when the client closes it, or dies, the engine aborts what runs and leaves. Where there is no going on, it
ends with exit code 1, too (docs/faults.md).
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial

from pydantic import ValidationError

from infergc.config import EngineConfig
from infergc.engine.faults import persist
from infergc.engine.garbage import PythonGarbage
from infergc.engine.messages import Command, Outputs, Ready, Shutdown
from infergc.engine.resuming import AnyEngine, build_resuming_engine
from infergc.engine.ticks import Ticks
from infergc.engine.upkeep import Upkeep
from infergc.engine.wire import EngineChannel, encode_frame

_LOG = logging.getLogger(__name__)
_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_START_ERRORS = (ValueError, OSError, ImportError, MemoryError, RuntimeError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an engine until its client leaves; returns the exit code."""
    fd, config = sys.argv[1:] if arguments is None else arguments
    _leave_signals_to_the_client()
    with socket.socket(fileno=int(fd)) as sock:
        channel = EngineChannel(sock)
        try:
            settings = EngineConfig.model_validate_json(config)
            logging.basicConfig(level=settings.log_level.upper(), format=_LINE)
            engine = build_resuming_engine(settings)
        except _START_ERRORS as error:
            channel.send(_refusal(error))
            return 1
        try:
            serve(engine, channel)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client left while news was on its way: nobody is there to be told
        except Exception:  # noqa: BLE001 - whatever it is, what was being done is half done
            _LOG.critical("the engine ends: there is no going on", exc_info=True)
            return 1  # as it is: to put it in order is to go on with what cannot be trusted
        engine.close()
    return 0


def serve(engine: AnyEngine, channel: EngineChannel) -> None:
    """Take commands, step, send the news, until the client leaves or says ``Shutdown``."""
    with PythonGarbage(engine.ready.memory) as garbage:
        upkeep = Upkeep(engine, garbage)  # looks at the model's tensors before they are frozen
        garbage.freeze()
        ticks = Ticks()
        channel.send(engine.ready)
        channel.send(upkeep.measured(engine.step()))  # of an idle engine, for metrics before the first request
        while True:
            commands = persist(partial(_next_commands, engine, channel, upkeep))
            if commands is None:
                return
            persist(partial(upkeep.run, waiting=bool(commands)))
            outputs = engine.step(persist(partial(_with_time, ticks, commands)))
            if _has_news(outputs):
                channel.send_frame(persist(partial(_encode, upkeep, outputs)))
            if any(isinstance(command, Shutdown) for command in commands):
                return


def _next_commands(engine: AnyEngine, channel: EngineChannel, upkeep: Upkeep) -> list[Command] | None:
    """What has arrived; None once the client is gone. An idle engine cleans its heap until something arrives."""
    while not engine.has_work():
        commands = channel.take(0)
        if commands or commands is None:
            return commands
        if not engine.idle():
            break
    return channel.take(upkeep.patience())


def _with_time(ticks: Ticks, commands: list[Command]) -> list[Command]:
    return [*ticks.take(), *commands]


def _encode(upkeep: Upkeep, outputs: Outputs) -> bytes:
    return encode_frame(upkeep.measured(outputs))


def _has_news(outputs: Outputs) -> bool:
    return bool(outputs.deltas or outputs.ids or outputs.answers) or outputs.stats is not None


def _leave_signals_to_the_client() -> None:
    """Ctrl-C and a service manager's SIGTERM reach every process of a group; the client decides when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _refusal(error: Exception) -> Ready:
    reason = str(error) or type(error).__name__
    if isinstance(error, ValidationError):
        reason = f"the engine's configuration is not valid: {error}"
    return Ready(0, 0, (), "", "", {}, 0, error=reason)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Python would free a model object by object, for a second, and who killed the server waits for the memory.
    os._exit(code)
