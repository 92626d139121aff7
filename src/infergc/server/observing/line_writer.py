"""Lines into a file or to stderr, from a thread of their own: whatever becomes of the disk, nobody waits for it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from infergc.config import ConfigError
from infergc.wording import counted

MOST_WAITING = 10_000  # lines; about 4 MB
_BATCH = 1000  # lines in one write
_LAST_WORDS = 2.0  # seconds that the end waits for what is still to be written


class LineWriter:
    """Appends lines, in order. Those that cannot be written, or are too many, are lost, and it is said how many.

    The file is opened for each batch: one that was rotated away is left alone and a new one begins. After a write that
    failed half way the next begins on a line of its own.

    Args:
        path: of the file; None for stderr.
        say: is called, from the thread, where writing fails and where it works again.
        lost_line: the line that is put where lines are missing, given their number.

    Raises:
        ConfigError: there cannot be such a file, or stderr is closed.
    """

    def __init__(self, path: Path | None, say: Callable[[str], None], lost_line: Callable[[int], bytes]) -> None:
        self._path = path
        self._say = say
        self._lost_line = lost_line
        self._stderr = -1
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._dropped = 0  # lines, counted by who puts
        self._failed = 0  # lines, counted by the thread, as what follows is kept by it
        self._told = 0
        self._is_torn = False
        self._is_failing = False
        try:
            self._stderr = _stderr() if path is None else -1
            with self._open():
                pass
        except OSError as error:
            raise ConfigError(_cannot_write(path, error)) from error
        self._thread = Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Write a line soon; it ends with a line feed. Never waits, never raises."""
        if self._queue.qsize() < MOST_WAITING:
            self._queue.put(line)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Write what is left, if that can be done within a moment."""
        self._queue.put(None)
        self._thread.join(_LAST_WORDS)
        if self._path is None and not self._thread.is_alive():
            os.close(self._stderr)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            lines = [first]
            goes_on = self._gather(lines)
            self._write(lines)
            if not goes_on:
                return

    def _gather(self, lines: list[bytes]) -> bool:
        """Add what else is there; False where the last of all has come."""
        while len(lines) < _BATCH:
            try:
                line = self._queue.get_nowait()
            except Empty:
                return True
            if line is None:
                return False
            lines.append(line)
        return True

    def _write(self, lines: list[bytes]) -> None:
        """Write them in one piece; what does not get there is lost."""
        lost = self._dropped + self._failed - self._told
        ahead = [b"\n"] * self._is_torn + [self._lost_line(lost)] * bool(lost)
        data, written = b"".join([*ahead, *lines]), 0
        try:
            with self._open() as file:
                while written < len(data):
                    written += os.write(file, data[written:])
        except OSError as error:
            whole = data.count(b"\n", 0, written)
            self._failed += len(lines) - max(0, whole - len(ahead))
            self._told += lost if whole >= len(ahead) else 0
            self._is_torn = data[written - 1] != ord("\n") if written else self._is_torn
            self._fails(error)
        else:
            self._told += lost
            self._is_torn = False
            if self._is_failing:
                self._is_failing = False
                self._say(f"The request log is written again; {counted(lost, 'line')} of it were lost")

    def _fails(self, error: OSError) -> None:
        if not self._is_failing:
            self._is_failing = True
            self._say(f"Error: {_cannot_write(self._path, error)}; requests are served, their lines are lost")

    @contextmanager
    def _open(self) -> Iterator[int]:
        if self._path is None:
            yield self._stderr
            return
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            yield file
        finally:
            os.close(file)


def _stderr() -> int:
    """A descriptor of our own: the number 2 may be anything, once who started us has closed it."""
    if sys.stderr is None:
        raise OSError("it is closed")
    return os.dup(sys.stderr.fileno())


def _cannot_write(path: Path | None, error: OSError) -> str:
    return f"--request-log: cannot write {path or 'to stderr'}: {error.strerror or error}"
