"""Whether an engine moves: it is asked again and again how many steps it has taken."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from infergc.client.engine import EngineDeadError

_LONGEST_BEAT = 5.0  # seconds; a question a beat costs an idle engine some 100 µs
_BEATS = 4  # at least, within the bound: else it would be over before the first answer


class Pulse:
    """How long an engine has stood still: with work, and without a step; or without an answer.

    It answers between two steps, so one that takes long holds up the answer, and ``bound`` is to be longer than the
    longest step.

    Args:
        ask: puts a question to the engine, see ``EngineClient.ask``.
        bound: seconds after which it counts as stuck.
        now: a clock, in seconds.

    Attributes:
        beat: seconds between two questions.
    """

    def __init__(
        self, ask: Callable[[str], Awaitable[Any]], bound: float, now: Callable[[], float] = monotonic
    ) -> None:
        self.beat = min(_LONGEST_BEAT, bound / _BEATS)
        self._ask = ask
        self._bound = bound
        self._now = now
        self._moved = now()  # or had nothing to do, as far as is known
        self._is_well = True  # by the latest answer: it moved, or had nothing to do
        self._asked: float | None = None  # since when a question waits for its answer
        self._steps = 0

    @property
    def silent(self) -> float:
        """Seconds without an answer; 0 while none is overdue by a beat."""
        waited = 0.0 if self._asked is None else self._now() - self._asked
        return waited if waited > self.beat else 0.0

    @property
    def still(self) -> float:
        """Seconds in which the engine had work and took no step, or did not answer; 0 while it moves or rests."""
        return max(self.silent, 0.0 if self._is_well else self._now() - self._moved)

    @property
    def is_stuck(self) -> bool:
        """Whether that is more than the bound."""
        return self.still > self._bound

    async def feel(self) -> None:
        """Ask until the engine is gone."""
        with suppress(EngineDeadError):
            while True:
                self._asked = self._now()
                self._take(await self._ask("progress"))
                await asyncio.sleep(self.beat)

    def _take(self, progress: dict[str, Any]) -> None:
        self._asked = None
        self._is_well = progress["steps"] != self._steps or not progress["has_work"]
        if self._is_well:
            self._moved = self._now()
        self._steps = progress["steps"]
