"""How a server ends: the signals that ask for it, and who may go on meanwhile."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from infergc.client import EngineSupervisor
from infergc.client.grammars import GrammarProcess
from infergc.server.entrance.door import Door
from infergc.wording import counted

LAST_WORDS = 5.0  # seconds that aborted requests have to tell their clients so
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Counts the signals that asked the server to stop.

    Attributes:
        asked: the first came.
        insisted: the second came.
        kill: is called before the third ends the process on the spot.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self.kill: Callable[[], None] = lambda: None

    def ask(self, number: int) -> None:
        """A signal came."""
        if self.insisted.is_set():
            self.kill()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if self.asked.is_set():
            self.insisted.set()
        self.asked.set()


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Take SIGINT and SIGTERM as long as the block lasts."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.ask, number)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def stop_gently(
    stop: Stop,
    door: Door,
    engine: EngineSupervisor,
    grammars: GrammarProcess,
    timeout: float,
    say: Callable[[str], None],
) -> None:
    """Wait until the server is to stop, or has no engine any more; then until nobody is served.

    Running and waiting requests go on for ``timeout`` seconds or until a second signal, then they are aborted. The
    listener stays open all the time: who comes is told that this server stops. Where the engine does not answer to the
    abort it is killed, and requests fail.
    """
    await _either(stop.asked.wait(), engine.over())
    door.close()
    engine.retire()
    if stop.asked.is_set() and door.inside:
        say(f"Stopping; {counted(door.inside, 'request')} may go on for up to {timeout:g} s, or until a second Ctrl-C")
        await _either(door.emptied(timeout), stop.insisted.wait())
        if door.inside:
            why = "a second signal came" if stop.insisted.is_set() else f"{timeout:g} s are over (--shutdown-timeout)"
            say(f"{why.capitalize()}; {counted(door.inside, 'request')} aborted")
    door.hurry()
    engine.abort_all()
    await grammars.close()
    if not await door.emptied(LAST_WORDS):
        if engine.open_requests:
            say(f"Error: the engine did not answer to the abort within {LAST_WORDS:g} s and is killed")
        await engine.close(0.0)


async def _either(*waits: Coroutine[Any, Any, bool]) -> None:
    """Wait for the first of them, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
