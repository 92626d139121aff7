"""What the README tells a newcomer to do works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from samples.servers import serving

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(*command: str) -> str:
    result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_offline_example_prints_two_texts():
    (example,) = [block for block in blocks("python") if "needs a running server" not in block]
    assert len(run("-c", example).strip()) > 10


GENERATE = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("infergc generate")]


@pytest.mark.parametrize("line", GENERATE)
def test_generate_lines_run(line):
    assert len(run("-m", *shlex.split(line.replace("infergc", "infergc.cli", 1))).strip()) > 10


def test_the_session_example_finds_the_turn_before():
    (example,) = [block for block in blocks("sh") if "session_id" in block]
    calls = [shlex.split(line) for line in example.splitlines() if line.startswith("curl ")]
    with serving(ROOT / "models" / "demo", "--kv-cache-memory", "64MiB") as server:
        *turns, end = calls
        for call in turns:
            path, body = call[1].removeprefix("http://127.0.0.1:8000"), call[call.index("-d") + 1]
            name, value = call[call.index("-H") + 1].split(": ")
            answer = server.http.post(path, content=body, headers={name: value})
        assert answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        assert server.http.request(end[2], end[3].removeprefix("http://127.0.0.1:8000")).json()["deleted"]


def test_every_flag_shown_exists():
    shown = set(re.findall(r"`(--[a-z-]+)", README)) - {"--heap-ops", "--soak"}
    helped = "".join(run("-m", "infergc.cli", *command, "--help") for command in (["serve"], ["bench", "control"]))
    assert shown, "the README shows flags"
    assert all(flag in helped for flag in shown)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make ([a-z]+)", "\n".join(blocks("sh")), re.MULTILINE))
    assert targets >= {"serve", "test", "check"}
    assert all(f"\n{target}:" in makefile for target in targets)
