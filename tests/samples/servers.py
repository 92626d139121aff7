"""Real server processes for tests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
START_SECONDS = 180  # at most, for a process from its start to its end: a busy machine is slow
_TIMED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")  # as logging has it
PATIENCE = 60.0  # seconds that a test waits for what takes a moment on an idle machine


def environment(**extra: str) -> dict[str, str]:
    """Ours, with the sources and the tests importable."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INFERGC_")}
    paths = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {**inherited, "PYTHONPATH": os.pathsep.join(path for path in paths if path), **extra}


def infergc(*arguments: str | Path, **options: object) -> "subprocess.Popen[str]":
    """Start a command."""
    command = [sys.executable, "-m", "infergc.cli", *map(str, arguments)]
    options = {"env": environment(), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, text=True, **options)


def infergc_result(*arguments: str | Path, **options: object) -> tuple[int, str, str]:
    """Run a command to its end: exit code, stdout, stderr."""
    with infergc(*arguments, **options) as process:
        out, err = process.communicate(timeout=START_SECONDS)
        return process.returncode, out, err


class Server:
    """A server process that answers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.announcement = _announcement(process)
        self.url = re.search(r"at (http://\S+)", self.announcement).group(1)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels."""
        lines = [line for line in self.http.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def pages(self, state: str) -> float:
        """KV pages in this state, over all groups."""
        return _pages(self.metrics(), state)

    def said(self) -> str:
        """The next line on stderr, without its time."""
        return untimed(self.process.stderr.readline())

    def requests(self, state: str = "running") -> float:
        """Requests in this state."""
        return self.metrics()[f'infergc_requests{{state="{state}"}}']

    def wait_until_idle(self) -> None:
        """Wait until no request holds a page."""
        wait_for(self._is_idle, "requests still hold pages")

    def _is_idle(self) -> bool:
        metrics = self.metrics()
        held = _pages(metrics, "live") + _pages(metrics, "in_transit")
        return not held + metrics['infergc_requests{state="running"}']

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; exit code and stderr."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=START_SECONDS)
        return self.process.returncode, err


def untimed(text: str) -> str:
    """What the server said, without the times, which each of these lines must have."""
    lines = text.splitlines(keepends=True)
    assert all(_TIMED.match(line) for line in lines), text
    return "".join(_TIMED.sub("", line) for line in lines)


def wait_for(
    condition: Callable[[], object], otherwise: str = "it did not come to pass", patience: float = PATIENCE
) -> None:
    """Wait until it holds; it is the test that fails where it never does."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)


@contextmanager
def post_and_leave(server: Server, path: str, body: dict[str, Any], key: str = "") -> Iterator[None]:
    """A client that makes a request, does what the block does, and goes without having read anything."""
    host, port = server.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    head += f"\r\nAuthorization: Bearer {key}" if key else ""
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        raw.sendall(head.encode() + b"\r\n\r\n" + content)
        yield


@contextmanager
def serving(
    model: Path, *flags: str, ends_with: int = 0, tracebacks: int = 0, **extra_environment: str
) -> Iterator[Server]:
    """A server on a free port; it must end with this exit code, and with so many tracebacks."""
    process = infergc("serve", model, "--port", "0", *flags, env=environment(**extra_environment))
    try:
        server = Server(process)
        with server.http:  # closed for a test that fails as well: another one would be blamed for the socket
            yield server
        code, err = server.stop()
        assert code == ends_with, err
        assert err.count("Traceback") == tracebacks, err
    finally:
        if process.poll() is None:
            for each in (*psutil.Process(process.pid).children(), process):  # an engine that a test has halted stays
                each.kill()
            process.communicate()


def _pages(metrics: dict[str, float], state: str) -> float:
    wanted = (name for name in metrics if name.startswith("infergc_kv_pages{") and f'state="{state}"' in name)
    return sum(metrics[name] for name in wanted)


def _announcement(process: "subprocess.Popen[str]") -> str:
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("  curl "):
            return "".join(lines)
    raise AssertionError(f"the server ended before it answered: {process.stderr.read()}")
