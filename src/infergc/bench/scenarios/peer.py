"""Another engine's scheduler and KV manager on the same stream, in a process of its own that answers in JSON lines."""

import json
import shlex
import subprocess
from math import isinf
from typing import Any

from infergc.bench.scenarios.outcome import Limits, Outcome
from infergc.bench.scenarios.systems import DEVICE, MODEL, TOKEN_BYTES, Load
from infergc.config import ConfigError
from infergc.sim.served import Progress

PAGE = 16  # tokens


class Peer:
    """A system behind a pipe; ``benchmarks/peers/run_vllm_scenarios.py`` says what goes through it.

    Args:
        command: that starts it, as a shell would read it; it is started when it is first needed.

    Attributes:
        name, title: of the system.
    """

    name = "vllm"
    title = "(e) vLLM's scheduler and KV manager"

    def __init__(self, command: str) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None

    def run(self, load: Load, pool: int | None, limits: Limits, progress: Progress) -> Outcome:
        """See ``System``.

        Raises:
            ConfigError: the process does not answer.
        """
        answer = self._asked(_order(load, pool, limits))
        progress(len(load.requests))
        return Outcome(requests=len(load.requests), **answer)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()

    def _asked(self, order: dict[str, Any]) -> dict[str, Any]:
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ConfigError(f"--peer: {self._command!r} gave no answer; it ended with exit code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> "subprocess.Popen[str]":
        try:
            return subprocess.Popen(  # noqa: S603 - the user's own command
                shlex.split(self._command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except (OSError, ValueError, IndexError) as error:
            raise ConfigError(f"--peer: {self._command!r} cannot be run: {error}") from None


def _order(load: Load, pool: int | None, limits: Limits) -> dict[str, Any]:
    """One run: everything in tokens, pages and seconds. Limits that are none are left out."""
    rows = [(each.arrival, each.input_len, each.output_len, each.blocks, each.block_tokens) for each in load.requests]
    most = {"seconds": limits.seconds, "preempted": limits.preempted}
    return {
        "requests": rows,
        "pages": (load.ample * TOKEN_BYTES if pool is None else pool) // (PAGE * TOKEN_BYTES),
        "block_size": PAGE,
        "running": load.seats,
        "batched_tokens": load.batch,
        "longest": load.longest,
        "limits": {name: value for name, value in most.items() if not isinf(value)},
        "model": MODEL.name,
        "device": DEVICE.name,
    }
