"""The engine's clock: wall time as commands, so that it is an input of a run like any other."""

import time
from collections.abc import Callable

from infergc.engine.messages import Tick


class Ticks:
    """Tells whoever drives an engine what to say of the time.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._told = 0

    def take(self) -> list[Tick]:
        """A tick if a second has begun since the last; nothing otherwise."""
        seconds = int(self._now() - self._began)
        if seconds == self._told:
            return []
        self._told = seconds
        return [Tick(seconds)]
