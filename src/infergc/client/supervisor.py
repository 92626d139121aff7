"""EngineSupervisor: the engine that runs now; where its process dies, another is started in its place."""

import asyncio
import logging
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Any, Self

from infergc.client.engine import EngineClient, EngineDeadError, EngineStartError
from infergc.client.patience import Patience
from infergc.client.pulse import Pulse
from infergc.client.restarts import RESTARTS_WITHIN, RestartBudget, start_limit
from infergc.client.spawn import CLOSE_SECONDS
from infergc.client.stream import RequestStream
from infergc.config import EngineConfig
from infergc.engine.messages import Ready, Submit
from infergc.wording import counted

_LONGEST_ANSWER = 30.0  # seconds that an answer is waited for; it comes between two steps
_LAST_ANSWER = 2.0  # the same while the server stops
_log = logging.getLogger(__name__)


class EngineRestartingError(EngineDeadError):
    """The engine died and another is being started: come again in so many ``seconds``."""

    def __init__(self, seconds: int) -> None:
        super().__init__("the engine died and is being started again", seconds)


class EngineStuckError(RuntimeError):
    """The engine has work and does not move, or it does not answer."""


class EngineSupervisor:
    """The face of an ``EngineClient`` that outlives its engine. Belongs to the event loop that started it.

    Requests that were open when an engine died have failed; sessions, pins and what was cached in memory went with it.
    What lies on disk is found again, and settings that were changed while it ran are set again. Names of requests
    and seeds go on where they were, so nothing that is said late of an old request meets a new one.

    Args:
        engine: the first.
        budget: of restarts.
        stuck_timeout: seconds without a step, or an answer, after which an engine counts as stuck.
        kills_stuck: whether such a one is killed, and so started again.
        say: is called with what the operator should know.

    Attributes:
        config: what engines are started with.
        builder: of requests.
        request: a checked request, ready for ``submit``; see ``RequestBuilder.build``.
        restarts: engines that were started again.
        has_given_up: whether there will be no other engine: the budget is used up, or looking after it has failed.
    """

    def __init__(
        self,
        engine: EngineClient,
        budget: RestartBudget,
        stuck_timeout: float,
        *,
        kills_stuck: bool,
        say: Callable[[str], None],
        start_seconds: float = 0.0,
    ) -> None:
        self.config: EngineConfig = engine.config
        self.builder = engine.builder
        self.request = engine.builder.build
        self.restarts = 0
        self.has_given_up = False
        self._engine = engine
        self._is_retired = False
        self._budget = budget
        self._stuck_timeout = stuck_timeout
        self._kills_stuck = kills_stuck
        self._say = say
        self._start_seconds = start_seconds  # that the latest start took
        self._expected = 0.0  # when the next engine should run, by ``monotonic``
        self._start_limit = start_limit(start_seconds)
        self._patience = Patience(min(stuck_timeout, _LONGEST_ANSWER))
        self._tuned: dict[str, Any] = {}
        self._pulse = Pulse(engine.ask, stuck_timeout)
        engine.replaced_in = self._until_another
        self._keeping = asyncio.create_task(self._keep(), name="engine-supervisor")

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        budget: RestartBudget,
        stuck_timeout: float,
        *,
        kills_stuck: bool,
        say: Callable[[str], None],
    ) -> Self:
        """Start the first engine; see the class for the arguments.

        Raises:
            EngineStartError: it cannot be started; that is not tried again.
        """
        begun = monotonic()
        engine = await EngineClient.start(config)
        seconds = monotonic() - begun
        return cls(engine, budget, stuck_timeout, kills_stuck=kills_stuck, say=say, start_seconds=seconds)

    # ---- as the client of the engine that runs

    @property
    def ready(self) -> Ready:
        """What the engine serves and holds in memory."""
        return self._engine.ready

    @property
    def stats(self) -> dict[str, Any]:
        """The engine's latest counters and gauges, see ``engine.stats``; none while there is no engine."""
        return self._engine.stats if self._engine.healthy else {}

    @property
    def healthy(self) -> bool:
        """Whether an engine runs."""
        return self._engine.healthy

    @property
    def open_requests(self) -> int:
        """See ``EngineClient``."""
        return self._engine.open_requests

    @property
    def unstarted_requests(self) -> int:
        """See ``EngineClient``."""
        return self._engine.unstarted_requests if self._engine.healthy else 0

    def submit(self, *requests: Submit) -> RequestStream:
        """Start requests, see ``EngineClient.submit``.

        Raises:
            EngineDeadError: there is no engine; EngineRestartingError where there will be.
        """
        self.check_alive()
        return self._engine.submit(*requests)

    def stop(self, request_id: str) -> None:
        """See ``EngineClient.stop``."""
        self._engine.stop(request_id)

    def abort_all(self) -> None:
        """Stop every open request."""
        self._engine.abort_all()

    async def close_session(self, session: str, salt: str = "", reason: str = "asked") -> str:
        """See ``EngineClient.close_session``.

        Raises:
            EngineDeadError: there is no engine.
            EngineStuckError: it does not answer.
        """
        return str(await self.ask("close_session", session=session, salt=salt, reason=reason))

    async def ask(self, what: str, **about: Any) -> Any:
        """Ask the engine something, see ``EngineClient.ask``. Settings that it takes are kept for engines to come.

        Raises:
            EngineDeadError: there is no engine.
            EngineStuckError: it does not answer in time.
            ValueError: it cannot answer this.
        """
        self.check_alive()
        try:
            async with self._patience.bound():
                answer = await self._engine.ask(what, **about)
        except TimeoutError:
            raise EngineStuckError(f"the engine has not answered for {self._patience.seconds:g} s") from None
        if what == "settings":
            self._tuned |= about
        return answer

    # ---- health

    @property
    def still_seconds(self) -> float:
        """How long the engine has had work and taken no step, or not answered; it is asked every few seconds.

        0 while it moves or rests, and without an engine.
        """
        return self._pulse.still if self._engine.healthy else 0.0

    def check_alive(self) -> None:
        """See that there is an engine.

        Raises:
            EngineRestartingError: one is being started.
            EngineDeadError: there is none.
        """
        if self._engine.healthy:
            return
        if self.has_given_up or self._is_retired:
            raise EngineDeadError("the engine is not running")
        raise EngineRestartingError(max(1, ceil(self._expected - monotonic())))

    def check_moving(self) -> None:
        """See that there is an engine and that it works.

        Raises:
            EngineDeadError: there is none.
            EngineStuckError: it stands still.
        """
        self.check_alive()
        if self._pulse.is_stuck:
            raise EngineStuckError(self._standstill())

    async def over(self) -> bool:
        """Wait until no other engine will be started; whether that is because it was given up."""
        await asyncio.wait((self._keeping,))
        return self.has_given_up

    # ---- the end

    def retire(self) -> None:
        """From now on no engine is started; one that is starting is killed, one that runs goes on.

        Answers of it are waited for a moment at most: who asks is not to keep a server that stops.
        """
        self._is_retired = True
        self._patience.shorten(_LAST_ANSWER)
        if not self._engine.healthy:
            self._keeping.cancel()

    def kill(self) -> None:
        """End the engine's process on the spot, for a server that is about to go in the same way."""
        self._engine.kill()

    async def close(self, patience: float = CLOSE_SECONDS) -> None:
        """End the engine; open requests fail. Harmless when repeated.

        Args:
            patience: seconds until it is killed.
        """
        self._keeping.cancel()
        await asyncio.wait((self._keeping,))
        if not await self._engine.close(patience) and patience:
            self._say(f"Error: the engine did not leave within {patience:g} s and was killed")

    # ---- one engine after the other

    async def _keep(self) -> None:
        """Look after the engine, and after those that follow it."""
        try:
            while (death := await self._attend()) is not None and not self._is_retired:
                if not await self._replace(death):
                    return
        except Exception as error:  # noqa: BLE001 - a fault of ours: nobody would notice how the engine does from now on
            _log.exception("the engine cannot be looked after")
            self.has_given_up = True
            self._say(f"Error: the engine cannot be looked after any more ({error!r}); the server ends")

    async def _attend(self) -> EngineDeadError | None:
        """Feel the engine's pulse until it is gone; returns how it died, None where it was closed."""
        gone, feeling = (asyncio.ensure_future(work) for work in (self._engine.gone(), self._pulse.feel()))
        stuck = False
        try:
            while not gone.done():
                await asyncio.wait((gone,), timeout=self._pulse.beat)
                stuck = self._judge(was_stuck=stuck)
            return gone.result()
        finally:
            gone.cancel()
            feeling.cancel()

    def _judge(self, *, was_stuck: bool) -> bool:
        """Say where the engine has got stuck, or moves again; returns whether it is stuck."""
        stuck = self._pulse.is_stuck and self._engine.healthy
        if stuck and not was_stuck:
            self._say(f"Error: {self._standstill()}; {'it is killed' if self._kills_stuck else '/health gets 503'}")
            if self._kills_stuck:
                self._engine.kill("was stuck")
        elif was_stuck and not stuck and self._engine.healthy:
            self._say("The engine moves again")
        return stuck

    async def _replace(self, death: EngineDeadError) -> bool:
        """Start another engine, after a pause where one has died lately; False where none may be started any more."""
        begun, reason = monotonic(), str(death)
        while True:
            pause = self._budget.take()
            if pause is None:
                return self._give_up(reason)
            self._expected = monotonic() + pause + self._start_seconds
            self._say(f"Error: {reason}; it is started again{f' in {pause:g} s' if pause else ''}")
            await self._engine.close(0.0)  # nothing of it stays
            await asyncio.sleep(pause)
            try:
                await self._start_in_time()
            except (EngineStartError, EngineDeadError, OSError) as error:
                reason = f"the engine could not be started again: {error}"
            else:
                self._say(f"The engine runs again, after {monotonic() - begun:.1f} s")
                return True

    async def _start_in_time(self) -> None:
        try:
            async with asyncio.timeout(self._start_limit):
                await self._start_another()
        except TimeoutError:
            raise EngineStartError(f"it was not ready after {self._start_limit:.0f} s, and was killed") from None

    async def _start_another(self) -> None:
        begun = monotonic()
        engine = await EngineClient.start(self.config)
        try:
            if self._tuned:
                await engine.ask("settings", **self._tuned)
        except BaseException:
            await engine.close(0.0)
            raise
        self._start_seconds = monotonic() - begun
        self.builder.ready = engine.ready
        engine.replaced_in = self._until_another
        self._engine, self._pulse = engine, Pulse(engine.ask, self._stuck_timeout)
        self.restarts += 1

    def _until_another(self) -> int | None:
        """Seconds from a death now to the next engine; None where there will be none."""
        pause = None if self._is_retired else self._budget.pause()
        return None if pause is None else max(1, ceil(pause + self._start_seconds))

    def _give_up(self, reason: str) -> bool:
        self.has_given_up = True
        often = f"{counted(self._budget.most, 'restart')} in {RESTARTS_WITHIN / 60:g} minutes"
        self._say(f"Error: {reason}; the server ends (--max-engine-restarts: {often})")
        return False

    def _standstill(self) -> str:
        silent = self._pulse.silent
        if not silent:
            return f"the engine has work and has taken no step for {self.still_seconds:.0f} s (--stuck-timeout)"
        load = counted(self._engine.open_requests, "open request")
        return f"the engine has not answered for {silent:.0f} s, with {load} (--stuck-timeout)"
