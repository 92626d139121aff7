"""Children of a test that use the disk store: to be killed, to run out of space, to see a read-only file system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}


def child(script: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start Python on a script that imports from ``samples``; its stdout is a pipe."""
    command = [sys.executable, "-u", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT)


def run_child(script: str, *arguments: object) -> None:
    """Run it to its end, which must be a good one."""
    with child(script, *arguments) as process:
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed


def run_under_mount(mount: str, script: str, directory: Path) -> None:
    """Run it where ``mount``, a line of shell, changed what file system it sees at ``directory``, its $1 and argument.

    The test is skipped where this user may not mount, not even in a name space of its own.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    inside = ["unshare", *user, "--mount", "sh", "-ec"]
    try:
        subprocess.run([*inside, mount, "sh", directory], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"may not mount: {error}")
    command = [*inside, f'{mount}\nexec "$2" -c "$3" "$1"', "sh", directory, sys.executable, script]
    subprocess.run(command, check=True, env=_ENVIRONMENT, timeout=120)
