"""``infergc chat`` with a simulated model: what ends an answer, and what cannot be answered."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from samples import served_model, slow_sim
from samples.servers import environment

CONTEXT = 256


def command(model: Path, executor: str = "infergc.sim.executor:create_executor") -> list[str]:
    return [sys.executable, "-m", "infergc.cli", "chat", "--model", str(model), "--executor", executor]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("model"), context=CONTEXT)


def chat(model: Path, typed: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    called = [*command(model), *flags]
    return subprocess.run(
        called, input=typed, capture_output=True, text=True, check=False, env=environment(), timeout=60
    )


def test_ctrl_c_stops_the_answer_alone(model: Path) -> None:
    process = subprocess.Popen(
        [*command(model, slow_sim.DAWDLING), "--max-tokens", "200"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, env=environment(),
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("go on\n")
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read(len(" [stopped]")) == " [stopped]"
        _, told = process.communicate("/help\n", timeout=60)
    assert process.returncode == 0
    assert "/reset" in told


def test_what_no_longer_fits_is_forgotten(model: Path) -> None:
    """Each message and its answer take a third of the context: there is room for one turn before."""
    done = chat(model, "of the ship and the sea\n" * 6, "--max-tokens", "60")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") >= 6


@pytest.mark.parametrize(
    ("typed", "flags", "message"),
    [
        ("word " * 200, ("--max-tokens", "8"), f"at most {CONTEXT - 1} are allowed"),
        ("word", ("--max-tokens", str(CONTEXT)), f"--max-tokens: {CONTEXT} is too many"),
        ("/forget", ("--max-tokens", "8"), "/reset begins anew"),
    ],
)
def test_what_cannot_be_answered_is_said_and_the_conversation_goes_on(
    model: Path, typed: str, flags: tuple[str, ...], message: str
) -> None:
    done = chat(model, f"{typed}\n/exit\n", *flags)
    assert done.returncode == 0
    assert message in done.stderr


def test_a_model_without_a_template_is_refused(tmp_path: Path) -> None:
    done = chat(served_model.save(tmp_path, chat=False), "hello\n")
    assert done.returncode == 1
    assert "has no chat template" in done.stderr
