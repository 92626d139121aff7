"""``infergc chat``: the command in a process of its own, with the bundled model."""

import subprocess
import sys
from pathlib import Path

from infergc import LLM, SamplingParams

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "demo"
COMMAND = [sys.executable, "-m", "infergc.cli", "chat", "--model", str(MODEL), "--kv-cache-memory", "64MiB"]
GREEDY = ("--temperature", "0", "--max-tokens", "20")
HELLO, MORE = "Hello there", "And what then?"


def chat(typed: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *flags], input=typed, capture_output=True, text=True, check=False, timeout=120)


def answers(conversations: list[list[str]]) -> list[str]:
    """What the model says greedily to the last message of each; before it stand messages and answers in turn."""
    roles = ("user", "assistant")
    texts = [[{"role": roles[at % 2], "content": said} for at, said in enumerate(each)] for each in conversations]
    with LLM(MODEL, kv_cache_memory="64MiB") as llm:
        found = llm.chat(texts, SamplingParams(temperature=0, max_tokens=20), use_tqdm=False)
    return [each.outputs[0].text for each in found]


def test_each_message_is_answered_with_what_was_said_before() -> None:
    first, other = answers([[HELLO], [MORE]])
    (second,) = answers([[HELLO, first, MORE]])
    assert second != other, "the conversation makes no difference here: nothing is shown"
    done = chat(f"{HELLO}\n\n{MORE}\n/reset\n{MORE}\n/exit\n{HELLO}\n", *GREEDY)
    assert (done.returncode, done.stdout) == (0, f"{first}\n{second}\n{other}\n")


def test_a_system_message_stands_before_all() -> None:
    (plain,) = answers([[HELLO]])
    done = chat(f"{HELLO}\n", *GREEDY, "--system", "You are the captain of a ship.")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stdout != f"{plain}\n"
