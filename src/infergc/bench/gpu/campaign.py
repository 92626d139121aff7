"""All sections one after the other, each in a process of its own that is ended when its time is over."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from threading import Event, Thread
from time import monotonic
from typing import Any

from infergc.bench.gpu.figure import NO_TIME, REST, Figure, left_out

INTERRUPTED = "interrupted"
_LEAST = 5.0  # seconds; with less there is no use in starting a process
_GRACE = 10.0  # seconds that a section may go over its time before it is ended
_SHOWN = 4000  # characters of a failed section's log
_LOOK = 0.05  # seconds between two looks at whether a section has to end


@dataclass(slots=True)
class Interrupt:
    """Whether the user has interrupted the run.

    A signal's handler only notes it, for an exception that a handler raises may come between any two steps: there a
    process was begun that nobody knew to end.
    """

    asked: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """A section to be run.

    Attributes:
        name: of the section.
        home: where its function is, ``module:function``.
        share: of the time, beside the others'.
    """

    name: str
    home: str
    share: float


@dataclass(slots=True)
class Done:
    """What came of a section.

    Attributes:
        name: of the section.
        seconds: that it took, its process's start included.
        figures: in order.
        about: what its process said of machine and libraries.
        log: the end of what it printed, where something went wrong.
        ends_all: why no section after it can be run either; "" if they can.
    """

    name: str
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    ends_all: str = ""

    def take(self, news: Mapping[str, Any]) -> None:
        """Note a line of its process."""
        self.about.update(news.get("about", {}))
        self.ends_all = news.get("ends_all", "") or self.ends_all
        if "figure" in news:
            given = news["figure"]
            self.figures.append(Figure(**{**given, "rounds": tuple(given["rounds"])}))


Command = Callable[[Planned, float], Sequence[str]]  # of a section and its seconds


def run_all(
    planned: Sequence[Planned],
    seconds: float,
    command: Command,
    told: Callable[[list[Done]], None],
    interrupt: Interrupt,
) -> list[Done]:
    """Run sections in order. What one leaves of its time goes to those after it, and too little to the first alone.

    Where the user interrupts, or the device is not there, those after it are not begun.

    Args:
        planned: the sections; the first are worth most.
        seconds: for all of them.
        command: how a section's process is started.
        told: of all that is done, after each section.
        interrupt: ends the section that runs.
    """
    done: list[Done] = []
    ends = monotonic() + seconds
    for at, section in enumerate(planned):
        left = ends - monotonic()
        limit = max(left * section.share / sum(each.share for each in planned[at:]), min(left, _LEAST))
        ended = INTERRUPTED if interrupt.asked else done[-1].ends_all if done else ""
        if ended:
            done.append(Done(section.name, figures=[left_out("all", ended)], ends_all=ended))
        elif limit < _LEAST:
            done.append(Done(section.name, figures=[left_out("all", NO_TIME)]))
        else:
            done.append(run_one(section.name, command(section, limit), min(limit + _GRACE, left), interrupt))
        told(done)
    return done


def run_one(name: str, command: Sequence[str], limit: float, interrupt: Interrupt) -> Done:
    """Run a section's process; it and all that it started are ended after ``limit`` seconds, or by an interrupt."""
    done, began = Done(name), monotonic()
    with TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(  # noqa: S603 - this program itself
            command, stdout=subprocess.PIPE, stderr=log, text=True, process_group=0
        )
        with _watched(process, lambda: interrupt.asked or monotonic() - began > limit) as stopped:
            _listen(process, done)
        done.seconds = monotonic() - began
        if stopped.is_set():
            _stopped(done, interrupt)
        elif process.returncode:
            done.figures.append(Figure(REST, failed=f"its process ended with status {process.returncode}"))
        if any(figure.failed or figure.wrong for figure in done.figures):
            log.seek(0)
            done.log = log.read()[-_SHOWN:]
    return done


@contextmanager
def _watched(process: "subprocess.Popen[str]", due: Callable[[], bool]) -> Iterator[Event]:
    """While the block runs, end the process as soon as that is due; after it, the process in any case.

    Yields:
        what is set if it was ended for being due.
    """
    over, stopped = Event(), Event()

    def watch() -> None:
        while not over.wait(_LOOK):
            if due():
                stopped.set()
                _end(process)
                return

    watcher = Thread(target=watch, name="infergc-bench-watch", daemon=True)
    try:
        watcher.start()
        yield stopped
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()
        _end(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)  # a driver that hangs keeps it for ever


def _listen(process: "subprocess.Popen[str]", done: Done) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if line.endswith("\n"):  # else it was ended while it wrote
                done.take(json.loads(line))
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)  # else what it started would be ended with its last line


def _stopped(done: Done, interrupt: Interrupt) -> None:
    reason = f"stopped after {done.seconds:.0f} s, when its time was over"
    if interrupt.asked:
        done.ends_all = reason = INTERRUPTED
    done.figures.append(left_out(REST, reason))


def _end(process: "subprocess.Popen[str]") -> None:
    """The process and its descendants, which are a group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
