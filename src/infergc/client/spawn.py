"""Starting an engine process and ending it."""

import asyncio
import os
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


async def end_process(process: Process, patience: float) -> None:
    """Wait for a process that was told to leave; kill it if it does not within ``patience`` seconds."""
    try:
        async with asyncio.timeout(patience):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def exit_code(process: Process) -> str:
    """How a process that closed its socket ended, for a message; it is given a moment to end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(EXIT_SECONDS):
            return f"exit code {await process.wait()}"
    return "still running"


def environment() -> dict[str, str]:
    """Ours, with this very package first on the path, however it came to be importable here."""
    home = str(Path(infergc.__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{inherited}" if inherited else home}
