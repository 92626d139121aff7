"""A contender: an engine in a process of its own that runs one round when told to."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infergc.bench.workload import Load

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"  # the workload is there, which every contender imports
_SHOWN = 2000  # characters of what a failed contender printed


class ContenderError(RuntimeError):
    """A contender did not start, or its round failed; the message holds the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start a contender.

    Attributes:
        name: as in tables.
        command: interpreter, runner and flags.
        environment: added to ours.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


class Contender:
    """A running process that answers rounds. Its engine stays loaded; while it is not its turn it is stopped.

    Attributes:
        description: engine, version and flags, as the process says.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._name = recipe.name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        path = os.pathsep.join(filter(None, (str(HERE), str(SOURCE), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            recipe.command,
            env={**os.environ, **recipe.environment, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # a group of its own, to stop it with its children
        )
        try:
            self.description = self._answer()
        except ContenderError as error:
            self.close()
            raise ContenderError(
                f"{recipe.name} did not start: {str(error).rstrip().splitlines()[-1].strip()}"
            ) from None
        self._signal(signal.SIGSTOP)

    def round(self, load: Load, number: int) -> dict[str, Any]:
        """Run one round.

        Returns:
            seconds, digest, and speed in output tokens a second.
        """
        self._signal(signal.SIGCONT)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({**asdict(load), "number": number}) + "\n")
            self._process.stdin.flush()
            answer = self._answer()
        finally:
            self._signal(signal.SIGSTOP)
        return {**answer, "speed": load.generated / answer["seconds"]}

    def peak_bytes(self) -> int:
        """Sum of the largest resident sets of the process and its living descendants."""
        return sum(_peak_bytes(pid) for pid in _descendants(self._process.pid))

    def close(self) -> None:
        """End the process and its children. Harmless when repeated."""
        self._signal(signal.SIGKILL)
        with self._process:  # closes its pipes, and waits
            self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            self._errors.seek(0)
            raise ContenderError(f"{self._name}: {answer['error']}\n{self._errors.read()[-_SHOWN:]}")
        return answer

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


@contextmanager
def started(recipe: Recipe) -> Iterator[Contender]:
    """A contender, ended with the block."""
    contender = Contender(recipe)
    try:
        yield contender
    finally:
        contender.close()


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def runner(name: str, python: str | Path, options: Sequence[str], environment: Mapping[str, str] = {}) -> Recipe:
    """The recipe of the runner ``run_<name>.py`` beside this file."""
    return Recipe(name, (str(python), str(HERE / f"run_{name}.py"), *options), environment)
