"""pytest in a fork of this process: what tests import is loaded once, and a run that hangs is ended."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import hypothesis  # noqa: F401 - loaded here, not in each fork
import numpy as np  # noqa: F401 - likewise
import pytest

_POLL_SECONDS = 0.02
_BROKEN = 70  # an exit code: the fork itself failed
_NO_TRIAL = {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED, _BROKEN}


def passes(tests: Sequence[str], root: Path, sources: Path, seconds: float) -> bool:
    """Whether tests pass against a copy of the sources; those that take longer than so many seconds do not.

    Args:
        tests: as pytest takes them; the first failure ends the run.
        root: of the repository.
        sources: what to import the package from.
        seconds: the limit.

    Raises:
        RuntimeError: they could not be tried.
    """
    code = _exit_code(lambda: run(tests, root, sources), seconds)
    if code in _NO_TRIAL:
        raise RuntimeError(f"pytest {' '.join(tests)} ends with {code}: no trial at all")
    return code == 0


def run(tests: Sequence[str], root: Path, sources: Path, plugins: Sequence[object] = ()) -> int:
    """Run tests in this very process, which should be a fork, and silently; returns pytest's exit code."""
    os.chdir(root)
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(sources), str(root / "tests")]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    return int(pytest.main(["-q", "-x", "--assert=plain", "-p", "no:cacheprovider", *tests], plugins=list(plugins)))


def in_a_fork(work: Callable[[], int]) -> int:
    """The exit code of a fork that does this."""
    return _exit_code(work, float("inf"))


def _exit_code(work: Callable[[], int], seconds: float) -> int:
    """-1: it took too long."""
    child = os.fork()
    if child == 0:
        os.setsid()
        code = _BROKEN
        try:
            code = work()
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_POLL_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1
