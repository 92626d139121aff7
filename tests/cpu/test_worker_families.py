"""Every family through the executor, with hand-made plans, against transformers."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from cpu.families import FAMILIES, make_family
from cpu.plans import Planner, greedy_streams
from infergc.config import engine_config
from infergc.kernels.cpu import library
from infergc.worker.executor import TorchExecutor
from infergc.worker.factory import create_executor
from infergc.worker.sampler import Asked

PROMPT_LENGTHS = (1, 16, 33, 130)  # a token, a page, over a page, over every window and several chunks
NEW_TOKENS = 40
CHUNK = 37
# bf16 keeps 8 bits and the matrices are scaled up; two sound orders of summation differ by this much.
BF16_TOLERANCE = 0.05

BACKENDS = pytest.mark.parametrize(
    "backend",
    [
        "reference",
        pytest.param("cpu", marks=pytest.mark.skipif(not library.PATH.exists(), reason="no kernels were compiled")),
    ],
)


def executor_for(directory: Path, **settings: object) -> TorchExecutor:
    defaults = {"dtype": "float32", "threads": 2, "attention_backend": "cpu"}
    return create_executor(engine_config(model=directory, **{**defaults, **settings}))


def prompts_for(vocab_size: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(vocab_size, (n,), generator=generator).tolist() for n in PROMPT_LENGTHS]


def stream_with_logits(executor: TorchExecutor, prompts: list[list[int]]) -> tuple[list[list[int]], torch.Tensor]:
    """Greedy streams, and the logits behind every token: [sequence, new token, V]."""
    planner = Planner(executor.facts.groups, 16, len(prompts), max(PROMPT_LENGTHS) + NEW_TOKENS)
    executor.allocate(planner.groups, len(prompts))
    rows: list[list[torch.Tensor]] = [[] for _ in prompts]
    sampler = executor._runner._sampler
    original = sampler.sample

    def record(logits_SV: torch.Tensor, asked: Asked) -> object:
        for slot, logits_V in zip(asked.slots.tolist(), logits_SV.clone(), strict=True):
            rows[slot].append(logits_V)
        return original(logits_SV, asked)

    sampler.sample = record
    streams = greedy_streams(executor, planner, prompts, NEW_TOKENS, CHUNK)
    executor.close()
    return streams, torch.stack([torch.stack(row) for row in rows])


def hf_logits(directory: Path, dtype: torch.dtype, prompts: list[list[int]], streams: list[list[int]]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    with torch.inference_mode():
        texts = [torch.tensor([prompt + stream[:-1]]) for prompt, stream in zip(prompts, streams, strict=True)]
        return torch.stack([model(text).logits[0, -NEW_TOKENS:].float() for text in texts])


@BACKENDS
@pytest.mark.parametrize("family", FAMILIES)
def test_chunked_prefill_and_decode_match_transformers(family: str, backend: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    executor = executor_for(directory, attention_backend=backend)
    prompts = prompts_for(executor.vocab_size)
    streams, logits = stream_with_logits(executor, prompts)
    expected = hf_logits(directory, torch.float32, prompts, streams)
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()
    # Each token is transformers' choice after the tokens before it: so is, by induction, the whole stream.
    assert streams == expected.argmax(-1).tolist()
    assert all(len(set(stream)) >= NEW_TOKENS // 4 for stream in streams), "streams that hardly vary prove little"


@BACKENDS
@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed", "qwen3"])
def test_bfloat16_stays_near_transformers(family: str, backend: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path, dtype=torch.bfloat16)
    executor = executor_for(directory, dtype="bfloat16", attention_backend=backend)
    prompts = prompts_for(executor.vocab_size)
    streams, logits = stream_with_logits(executor, prompts)
    expected = hf_logits(directory, torch.bfloat16, prompts, streams)
    assert (logits - expected).abs().max() <= BF16_TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("family", ["llama3", "mistral_window"])
def test_deterministic_streams_do_not_depend_on_the_batch(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    prompts = prompts_for(131)
    _, together = stream_with_logits(executor_for(directory, deterministic=True), prompts)
    for index, prompt in enumerate(prompts):
        _, alone = stream_with_logits(executor_for(directory, deterministic=True), [prompt])
        assert torch.equal(alone[0], together[index])
