"""Streams whose work is done as late, or in as adverse an order, as the rules of CUDA's streams and events permit.

What is given to a stream waits there until somebody waits for it. Meanwhile a schedule may have other streams go on,
and what they wait for with them, but no more than that. The rules: a stream is in order; what comes behind a wait
begins when the event is reached; nothing else is promised.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

WORKER, COPIER, DEFAULT = "infergc-worker", "infergc-copier", "default"


class DeviceError(RuntimeError):
    """Work that was done later raised, or what is asked for is not there yet: as CUDA's errors, it stays."""


@dataclass(frozen=True)
class Schedule:
    """What is done before somebody waits for it.

    Attributes:
        name: of tests.
        eager: stream → how likely its next piece of work is done whenever there is a choice; 0 if it is not named.
        seed: of those choices. What the threads do meanwhile is the system's, so a seed does not fix an order.
    """

    name: str
    eager: Mapping[str, float]
    seed: int = 0


LATE = Schedule("late", {})
EARLY = Schedule("early", {WORKER: 1.0, COPIER: 1.0})
COPIES_EARLY = Schedule("copies-early", {COPIER: 1.0})
STEPS_EARLY = Schedule("steps-early", {WORKER: 1.0})
EXTREMES = (LATE, EARLY, COPIES_EARLY, STEPS_EARLY)


def some_order(seed: int) -> Schedule:
    """Each stream as eager as it comes."""
    drawn = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return Schedule(f"seed-{seed}", {name: drawn.random() for name in (WORKER, COPIER)}, seed)


class Stream:
    """``torch.cuda.Stream``: work in the order given, each piece a place behind the one before.

    Attributes:
        name: of the thread that made it.
        given: pieces so far.
        done: how many of them are done.
        todo: the others.
    """

    def __init__(self, machine: "Machine", name: str) -> None:
        self._machine = machine
        self.name = name
        self.given = 0
        self.done = 0
        self.todo: deque[Callable[[], Any] | _Wait] = deque()

    def wait_event(self, event: "Event") -> None:
        """What is given from now on begins behind the place that the event was recorded at last."""
        if event.stream is not None:
            self._machine.give(_Wait(event.stream, event.place), self)


@dataclass(frozen=True)
class _Wait:
    """Until so many pieces of a stream are done."""

    stream: Stream
    place: int


class Event:
    """``torch.cuda.Event``: a place in a stream. One that was never recorded is waited for by nobody."""

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.stream: Stream | None = None
        self.place = 0
        self._reached: float | None = None

    def record(self) -> None:
        """Behind what the calling thread has given."""
        self._reached = None
        self.stream = self.machine.current()
        self.place = self.machine.give(self._reach, self.stream)

    def synchronize(self) -> None:
        if self.stream is not None and self.stream.done < self.place:
            self.machine.settled.append(_thread())
            self.machine.run(self.stream, self.place)

    def elapsed_time(self, end: "Event") -> float:
        """Milliseconds. As CUDA's, it fails where one of the two is not reached."""
        if self._reached is None or end._reached is None:
            raise DeviceError("device not ready: the time was asked for of an event that is not reached")
        return (end._reached - self._reached) * 1e3

    def _reach(self) -> None:
        self._reached = time.perf_counter()


class Machine:
    """All streams, and what happened there.

    Attributes:
        streams: all.
        default: the stream of threads that have none of their own.
        host_waits: for what threads had to wait without asking for that: a value that decides what is given next, or
            a copy that is not between pinned memory and the device. One name each, of the operation.
        settled: names of threads that waited for an event, once each time that it was not reached.
        uploads: copies from the host to the device, by stream.
        crossed: operations on a tensor that another stream made, whose memory is used again in that one's order.
        failure: what work raised.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._random = random.Random(schedule.seed)  # noqa: S311 - repeatable, not secret
        self._lock = threading.RLock()
        self._records = False
        self._own = threading.local()
        self.default = Stream(self, DEFAULT)
        self.streams = [self.default]
        self.host_waits: list[str] = []
        self.settled: list[str] = []
        self.uploads: list[str] = []
        self.crossed: list[str] = []
        self.failure: BaseException | None = None

    @property
    def is_idle(self) -> bool:
        """Whether all is done that was given."""
        return not any(stream.todo for stream in self.streams)

    def stream(self) -> Stream:
        """A new one."""
        stream = Stream(self, _thread())
        with self._lock:
            self.streams.append(stream)
        return stream

    def current(self) -> Stream:
        """The calling thread's."""
        found: Stream = getattr(self._own, "stream", self.default)
        return found

    def use(self, stream: Stream) -> None:
        """It is the calling thread's from now on."""
        self._own.stream = stream

    def give(self, work: "Callable[[], Any] | _Wait", stream: Stream | None = None) -> int:
        """Have something done later; returns the place behind it."""
        stream = stream or self.current()
        with self._lock:
            stream.todo.append(work)
            stream.given += 1
            place = stream.given
            self._go_on()
        return place

    def recorded(self, work: Callable[[], None]) -> list[Any]:
        """What the calling thread would give by ``work``; none of it is done, nor anything else meanwhile."""
        stream = self.current()
        with self._lock:
            todo, given, stream.todo, self._records = stream.todo, stream.given, deque(), True
            try:
                work()
                return list(stream.todo)
            finally:
                stream.todo, stream.given, self._records = todo, given, False

    def run(self, stream: Stream, place: int) -> None:
        """Have all done before a place of a stream, and what that waits for.

        Raises:
            DeviceError: some of it raised, now or before; or somebody waits for what is only recorded.
        """
        with self._lock, _working():
            if self._records:
                raise DeviceError("operation not permitted when stream is capturing")
            while stream.done < place:
                self._take(stream)
                self._go_on()
            if self.failure is not None:
                raise DeviceError(f"{type(self.failure).__name__}: {self.failure}") from self.failure

    def synchronize(self) -> None:
        """Wait for all that anybody has given."""
        for stream in tuple(self.streams):
            self.run(stream, stream.given)

    def host_wait(self, what: str) -> None:
        """The calling thread waits for its stream, without having asked for that."""
        with self._lock:
            self.host_waits.append(what)
        stream = self.current()
        self.run(stream, stream.given)

    def _take(self, stream: Stream) -> None:
        """Do the next piece of a stream, and before it what it waits for."""
        head = stream.todo[0]
        if isinstance(head, _Wait):
            while head.stream.done < head.place:
                self._take(head.stream)
        stream.todo.popleft()
        stream.done += 1
        if not isinstance(head, _Wait):
            try:
                head()
            except Exception as error:  # noqa: BLE001 - the device's, for whoever asks next
                self.failure = self.failure or error

    def _go_on(self) -> None:
        """Streams go on that might, by the schedule."""
        if self._records:
            return
        eager = [stream for stream in self.streams if self._schedule.eager.get(stream.name)]
        self._random.shuffle(eager)
        with _working():
            for stream in eager:
                while stream.todo and self._random.random() < self._schedule.eager[stream.name]:
                    self._take(stream)


def _thread() -> str:
    return threading.current_thread().name.partition("_")[0]


@contextmanager
def _working() -> Iterator[None]:
    """Work is done by whichever thread it is, in none of that thread's modes."""
    with _disable_current_modes(), torch.inference_mode():
        yield
