"""Starting an engine process and ending it."""

import asyncio
import os
import signal
import socket
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path

import infergc
from infergc.config import EngineConfig

CLOSE_SECONDS = 10.0  # an engine leaves at its next step; a step is far shorter than this
EXIT_SECONDS = 5.0  # from a closed socket to an exit code; on an idle machine some milliseconds


async def spawn_engine(config: EngineConfig) -> tuple[Process, StreamReader, StreamWriter]:
    """Start the engine process; returns it and our end of the socket to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "infergc.engine.process"),
                *(str(theirs.fileno()), config.model_dump_json()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env=environment(),
            )
        except BaseException:
            writer.close()
            raise
    return process, reader, writer


async def end_process(process: Process, patience: float) -> bool:
    """Wait for a process that was told to leave; kill it if it does not within ``patience`` seconds.

    Returns:
        whether it left by itself.
    """
    try:
        async with asyncio.timeout(patience):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return False
    return True


async def ending(process: Process) -> str:
    """How a process that closed its socket ended, for a message; it is given a moment to end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(EXIT_SECONDS):
            return _ending(await process.wait())
    return "still running"


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    if code == -signal.SIGKILL:
        return "killed by SIGKILL; the system may have been out of memory"
    names = {number.value: number.name for number in signal.Signals}
    return f"killed by {names.get(-code, f'signal {-code}')}"


def environment() -> dict[str, str]:
    """Ours, with this very package first on the path, however it came to be importable here."""
    home = str(Path(infergc.__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{inherited}" if inherited else home}
