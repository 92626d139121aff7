"""A server process that benchmarks talk to, and what they ask of it beside requests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil


class Server:
    """A server process, from when it said where it serves."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = psutil.Process(process.pid)
        assert process.stdout is not None
        line = next(line for line in process.stdout if " at http://" in line)
        place = urlsplit(line.split()[-1])
        self.host, self.port, self.url = place.hostname, place.port, place.geturl()
        next(line for line in process.stdout if line.startswith("  curl"))

    def metric(self, name: str) -> float:
        """The sum of the samples whose names begin so; labels stand in the order of the alphabet or not at all."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        begin, _, label = name.partition("{")
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(begin) and label in line)

    def resident(self) -> int:
        """Bytes of the server process alone, without the engine."""
        return int(self._process.memory_info().rss)

    def processor_seconds(self) -> float:
        """Of the engine since its start, in all threads: what it takes whatever else runs on the machine."""
        children = self._process.children()  # another one looks at grammars
        (engine,) = [child for child in children if "infergc.engine.process" in child.cmdline()]
        return _seconds(engine)

    def own_seconds(self) -> float:
        """Of the server process alone, as ``processor_seconds``."""
        return _seconds(self._process)

    def kill(self) -> None:
        """Kill at once, and the engine too."""
        for process in (*self._process.children(), self._process):
            os.kill(process.pid, signal.SIGKILL)


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def serving(model: Path, *flags: str) -> Iterator[Server]:
    """A server of a model on a free port, stopped at the end."""
    command = [sys.executable, "-m", "infergc.cli", "serve", str(model), "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()
