"""All sections one after the other, each in a process of its own that is ended when its time is over."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from threading import Timer
from time import monotonic
from typing import Any

from infergc.bench.gpu.figure import REST, Figure, left_out

INTERRUPTED = "interrupted"
_LEAST = 5.0  # seconds; with less there is no use in starting a process
_GRACE = 10.0  # seconds that a section may go over its time before it is ended
_SHOWN = 4000  # characters of a failed section's log


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
    planned: Sequence[Planned], seconds: float, command: Command, told: Callable[[list[Done]], None]
) -> list[Done]:
    """Run sections in order. What one leaves of its time goes to those after it.

    Where the user interrupts, or the device is not there, those after it are not begun.

    Args:
        planned: the sections; the first are worth most.
        seconds: for all of them.
        command: how a section's process is started.
        told: of all that is done, after each section.
    """
    done: list[Done] = []
    ends = monotonic() + seconds
    for at, section in enumerate(planned):
        left = ends - monotonic()
        limit = left * section.share / sum(each.share for each in planned[at:])
        try:
            done.append(_next(section, done[-1].ends_all if done else "", command, limit, left))
        except KeyboardInterrupt:  # where no process runs
            done.append(Done(section.name, figures=[left_out(REST, INTERRUPTED)], ends_all=INTERRUPTED))
        told(done)
    return done


def _next(section: Planned, ended: str, command: Command, limit: float, left: float) -> Done:
    if ended:
        return Done(section.name, figures=[left_out("all", ended)], ends_all=ended)
    if limit < _LEAST:
        return Done(section.name, figures=[left_out("all", "no time was left")])
    return run_one(section.name, command(section, limit), min(limit + _GRACE, left))


def run_one(name: str, command: Sequence[str], limit: float) -> Done:
    """Run a section's process; it and all that it started are ended after ``limit`` seconds."""
    done, began, stopped = Done(name), monotonic(), False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        _end(process)

    with TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(  # noqa: S603 - this program itself
            command, stdout=subprocess.PIPE, stderr=log, text=True, process_group=0
        )
        timer = Timer(limit, stop)
        timer.start()
        try:
            _listen(process, done)
        except KeyboardInterrupt:
            done.ends_all = INTERRUPTED
        finally:
            timer.cancel()
            _end(process)
        status = process.wait()
        done.seconds = monotonic() - began
        _conclude(done, status, stopped=stopped)
        if any(figure.failed or figure.wrong for figure in done.figures):
            log.seek(0)
            done.log = log.read()[-_SHOWN:]
    return done


def _listen(process: "subprocess.Popen[str]", done: Done) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if line.endswith("\n"):  # else it was ended while it wrote
                done.take(json.loads(line))
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)  # else what it started would be ended with its last line


def _conclude(done: Done, status: int, *, stopped: bool) -> None:
    if done.ends_all == INTERRUPTED:
        done.figures.append(left_out(REST, INTERRUPTED))
    elif stopped:
        done.figures.append(left_out(REST, f"stopped after {done.seconds:.0f} s, when its time was over"))
    elif status:
        done.figures.append(Figure(REST, failed=f"its process ended with status {status}"))


def _end(process: "subprocess.Popen[str]") -> None:
    """The process and its descendants, which are a group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
