"""The tool that writes random models: what it writes can be served."""

import subprocess
import sys
from pathlib import Path

from infergc import LLM, SamplingParams

ROOT = Path(__file__).parents[2]
TOOL = [sys.executable, str(ROOT / "tools" / "make_random_model.py")]
TINY = ["--hidden", "64", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--ffn", "96"]


def test_what_it_writes_generates_text(tmp_path: Path) -> None:
    subprocess.run([*TOOL, tmp_path / "model", *TINY], check=True, capture_output=True)
    with LLM(tmp_path / "model", kv_cache_memory="8MiB", dtype="float32", threads=1) as llm:
        params = SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True)
        (result,) = llm.generate({"prompt_token_ids": [5, 6, 7]}, params, use_tqdm=False)
    assert len(set(result.outputs[0].token_ids)) > 5


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    result = subprocess.run([*TOOL, tmp_path], check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert f"out: {tmp_path} exists" in result.stderr
