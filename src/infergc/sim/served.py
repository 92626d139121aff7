"""A workload served in simulated time, and one replayed for its cache alone: both drive the engine itself."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import cast

from infergc.engine.loop import Engine
from infergc.engine.messages import Delta, Submit
from infergc.params import SamplingParams
from infergc.sim.clock import Clock
from infergc.sim.requests import TraceRequest, turns_that_follow

Progress = Callable[[int], None]  # told how many more requests are over


@dataclass(slots=True)
class Fate:
    """What became of a request.

    Attributes:
        request: as the workload had it.
        first, last: seconds after the workload began at which its first token came, and its last; None if none did.
        tokens: that it was given, over all its choices.
        cached: tokens of its prompt that were found in the cache.
        open: choices that go on.
        error: why it was refused or failed; "" if it was not.
    """

    request: TraceRequest
    first: float | None = None
    last: float | None = None
    tokens: int = 0
    cached: int = 0
    open: int = 1
    error: str = ""

    @property
    def finished(self) -> bool:
        """Whether it ran to its end."""
        return self._over and self.tokens == self._wanted

    @property
    def cut(self) -> bool:
        """Whether it ended before its end, where the pool did."""
        return self._over and self.tokens < self._wanted

    @property
    def _over(self) -> bool:
        return not self.open and not self.error

    @property
    def _wanted(self) -> int:
        return self.request.output_len * self.request.choices


def serve(
    engine: Engine,
    clock: Clock,
    requests: Sequence[TraceRequest],
    progress: Progress = lambda _: None,
    clients: int | None = None,
) -> list[Fate]:
    """Let requests come at their times, and run until all are over.

    Args:
        engine: with no requests, under a simulated executor; ``clock`` is among its sinks.
        clock: of the engine.
        requests: in order of arrival.
        progress: told as they go.
        clients: requests under way at a time: the next comes when one is over, whatever its time was, but a turn of
            a conversation never before the last one's answer; its fate's arrival is when it came. None: they come at
            their times.
    """
    fates = [Fate(request, open=request.choices) for request in requests]
    comings: _Comings | _Clients = _Comings(requests) if clients is None else _Clients(fates, clients)
    over = 0
    while comings.left or engine.has_work():
        if not engine.has_work():
            clock.now = max(clock.now, comings.next_arrival)
        outputs = engine.step(comings.until(clock.now, over))
        more = _note(outputs.deltas, fates, clock.now, engine.ready.max_model_len)
        if more:
            progress(more)
        over += more
    return fates


def replay_cache(engine: Engine, requests: Sequence[TraceRequest], progress: Progress = lambda _: None) -> list[Fate]:
    """Let the prompts come one after the other, each alone, so that only what is kept matters.

    Args:
        engine: as for ``serve``; a prompt should fit into one step.
        requests: in order; their times, output lengths and choices play no part.
        progress: told as they go.
    """
    fates = [Fate(_prompt_alone(request)) for request in requests]
    for number, fate in enumerate(fates):
        commands = [_submit(number, fate.request, _PROMPT_ALONE)]
        while commands or engine.has_work():
            outputs, commands = engine.step(commands), []
            _note(outputs.deltas, fates, None, engine.ready.max_model_len)
        while engine.idle():  # nothing else runs: what the collector owes is done before the next comes
            pass
        progress(1)
    return fates


_PROMPT_ALONE = SamplingParams(max_tokens=1, ignore_eos=True, temperature=0, seed=0)


def _prompt_alone(request: TraceRequest) -> TraceRequest:
    """What is left of a request where its prompt alone matters; a session would pin its turn."""
    return replace(request, output_len=1, session="", choices=1, beam=False)


class _Comings:
    """Requests that have not come yet."""

    def __init__(self, requests: Sequence[TraceRequest]) -> None:
        self._requests = requests
        self._next = 0

    @property
    def left(self) -> bool:
        return self._next < len(self._requests)

    @property
    def next_arrival(self) -> float:
        return self._requests[self._next].arrival

    def until(self, now: float, over: int) -> Iterator[Submit]:  # noqa: ARG002 - who comes in time does not look
        """Those that have come by now, when so many are over."""
        while self.left and self.next_arrival <= now:
            request = self._requests[self._next]
            yield _submit(self._next, request, _params(request, self._next))
            self._next += 1


class _Clients:
    """Requests that come one after the other from clients that wait for their answers.

    Turns of a conversation stay in order: the next comes after the answer to the last, and meanwhile a client takes
    another's. So at most as many are under way as there are conversations, a request without one counting as its own.
    """

    next_arrival = 0.0  # of a client that waits for nothing: now

    def __init__(self, fates: list[Fate], clients: int) -> None:
        self._fates = fates
        self._clients = clients
        self._follows = turns_that_follow([fate.request for fate in fates])
        self._ready = sorted(set(range(len(fates))).difference(self._follows.values()))  # a heap, of numbers
        self._under_way: list[int] = []
        self._started = self._over = 0

    @property
    def left(self) -> bool:
        return self._started < len(self._fates)

    def until(self, now: float, over: int) -> Iterator[Submit]:
        """As many as there are clients that wait for nothing."""
        if over != self._over:
            self._over = over
            self._let_follow()
        while self._ready and len(self._under_way) < self._clients:
            number = heappop(self._ready)
            fate = self._fates[number]
            fate.request = replace(fate.request, arrival=now)
            self._under_way.append(number)
            self._started += 1
            yield _submit(number, fate.request, _params(fate.request, number))

    def _let_follow(self) -> None:
        """Turns may come whose last ones are over."""
        for number in self._under_way:
            if not self._fates[number].open and number in self._follows:
                heappush(self._ready, self._follows[number])
        self._under_way = [number for number in self._under_way if self._fates[number].open]


def _submit(number: int, request: TraceRequest, params: SamplingParams) -> Submit:
    prompt = cast("list[int]", request.prompt(number))  # no wire between: the array goes as it is
    return Submit(str(number), prompt, params, salt=request.salt, session=request.session)


def _params(request: TraceRequest, number: int) -> SamplingParams:
    if request.beam:
        return SamplingParams(
            max_tokens=request.output_len, ignore_eos=True, temperature=0, seed=number,
            n=request.choices, use_beam_search=True, beam_width=request.choices,
        )  # fmt: skip
    return SamplingParams(max_tokens=request.output_len, ignore_eos=True, seed=number, n=request.choices)


def _note(deltas: Iterable[Delta], fates: list[Fate], now: float | None, longest: int) -> int:
    """Enter first tokens, at times that count, and ends; returns how many requests are over with these.

    A text of ``longest`` tokens ends there.
    """
    over = 0
    for delta in deltas:
        fate = fates[int(delta.request_id.partition("#")[0])]
        if delta.error:
            fate.error = delta.error
        elif delta.tokens:
            fate.first = now if fate.first is None else fate.first
            fate.last = now
        fate.cached = max(fate.cached, delta.cached_tokens)
        if delta.finish:
            fate.open -= 1
            fate.tokens += 0 if delta.error else min(fate.request.output_len, longest - fate.request.input_len)
            over += not fate.open
    return over
