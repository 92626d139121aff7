"""The tool that writes random models: what it writes can be served."""

from pathlib import Path

import pytest

from cpu.random_models import make_random_model
from infergc import LLM, SamplingParams

TINY = "--hidden 64 --layers 2 --heads 4 --kv-heads 2 --ffn 96"


def test_what_it_writes_generates_text(tmp_path: Path) -> None:
    make_random_model(tmp_path / "model", TINY)
    with LLM(tmp_path / "model", kv_cache_memory="8MiB", dtype="float32", threads=1) as llm:
        params = SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True)
        (result,) = llm.generate({"prompt_token_ids": [5, 6, 7]}, params, use_tqdm=False)
    assert len(set(result.outputs[0].token_ids)) > 5


def test_it_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        make_random_model(tmp_path)
    assert refused.value.code == 2
    assert f"out: {tmp_path} exists" in capsys.readouterr().err
