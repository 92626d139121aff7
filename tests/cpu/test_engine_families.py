"""The whole engine against transformers: same greedy tokens, however a request is batched, cut, cached or preempted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from cpu.families import FAMILIES, make_family
from infergc.config import engine_config
from infergc.engine.assembly import build_engine
from infergc.engine.loop import Engine
from infergc.units import MIB
from samples.engines import Results, run, submit

NEW_TOKENS = 20
CHUNK = 64
LOGIT_TOLERANCE = 1e-4  # of the largest logit
# Around a page (16), the windows (40 and 48), a chunk (64) and several chunks.
LENGTHS = (1, 15, 16, 17, 39, 40, 41, 47, 48, 49, 63, 64, 65, 200)
SUPERBLOCK_LENGTHS = (1003, 1023, 1024, 1025)


def engine_for(directory: Path, **settings: Any) -> Engine:
    defaults: dict[str, Any] = {
        "model": directory,
        "dtype": "float32",
        "kv_cache_memory": 16 * MIB,
        "max_num_seqs": 16,
        "max_num_batched_tokens": CHUNK,
    }
    return build_engine(engine_config(**{**defaults, **settings}))


def prompts_of(lengths: tuple[int, ...], vocab: int = 131) -> list[list[int]]:
    """Prompts of these lengths that all begin alike, so that they share pages."""
    base = torch.randint(vocab, (max(lengths),), generator=torch.Generator().manual_seed(1)).tolist()
    return [[*base[: length - 1], index] for index, length in enumerate(lengths)]


def load_of(prompts: list[list[int]], prefix: str = "r", tokens: int = NEW_TOKENS) -> list[Any]:
    return [
        submit(f"{prefix}{index}", prompt, max_tokens=tokens, ignore_eos=True, temperature=0.0, logprobs=20)
        for index, prompt in enumerate(prompts)
    ]


def streams(results: Results, prefix: str, count: int) -> list[list[int]]:
    assert not results.errors
    return [results.tokens[f"{prefix}{index}"] for index in range(count)]


def assert_transformers_agrees(directory: Path, prompts: list[list[int]], results: Results, prefix: str = "r") -> None:
    """Each token is transformers' likeliest after the tokens before it: by induction, the whole greedy stream.

    The 20 likeliest tokens' log probabilities differ by no more than the logits may.
    """
    found = streams(results, prefix, len(prompts))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.inference_mode():
        for index, (prompt, stream) in enumerate(zip(prompts, found, strict=True)):
            logits = model(torch.tensor([prompt + stream[:-1]])).logits[0, -len(stream) :]
            assert stream == logits.argmax(-1).tolist(), f"prompt of {len(prompt)} tokens"
            reports = results.logprobs[f"{prefix}{index}"]
            top = torch.tensor([report.top_ids for report in reports])
            ours = torch.tensor([report.top for report in reports])
            theirs = logits.log_softmax(-1).gather(-1, top)
            assert (ours - theirs).abs().max() <= 2 * LOGIT_TOLERANCE * logits.abs().max()
    assert all(len(set(stream)) >= len(stream) // 4 for stream in found), "streams that hardly vary prove little"


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers_cold_and_on_a_hit(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    prompts = prompts_of(LENGTHS)
    engine = engine_for(directory)
    cold = run(engine, load_of(prompts), check=False)
    engine.heap.check()
    assert_transformers_agrees(directory, prompts, cold)

    warm = run(engine, load_of(prompts), check=False)
    assert_transformers_agrees(directory, prompts, warm)
    assert all(warm.cached[f"r{i}"] == len(prompt) - 1 for i, prompt in enumerate(prompts))
    engine.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers_after_preemption(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    prompts = [prompt[::-1] for prompt in prompts_of((30,) * 8)]
    engine = engine_for(directory)
    page_bytes = sum(group.page_bytes for group in engine.heap.config.groups)
    engine.close()
    engine = engine_for(directory, kv_cache_memory=20 * page_bytes, max_num_batched_tokens=32)
    assert_transformers_agrees(directory, prompts, run(engine, load_of(prompts, tokens=60)))
    assert engine.scheduler.counters.preemptions > 0
    assert engine.scheduler.counters.recomputed_tokens > 0
    engine.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_the_same_alone_and_at_either_depth(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    prompts = prompts_of(LENGTHS)
    expected = streams(run(engine_for(directory), load_of(prompts), check=False), "r", len(prompts))
    engine = engine_for(directory, pipeline_depth=1, enable_prefix_caching=False, max_num_batched_tokens=50)
    for index, command in enumerate(load_of(prompts)):
        assert run(engine, [command]).tokens[f"r{index}"] == expected[index]
    engine.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_across_a_superblock(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    prompts = prompts_of(SUPERBLOCK_LENGTHS)
    engine = engine_for(directory, max_num_batched_tokens=300)
    assert_transformers_agrees(directory, prompts, run(engine, load_of(prompts), check=False))
    engine.close()


@pytest.mark.parametrize("page_tokens", [8, 32, 64])
def test_greedy_tokens_with_other_page_sizes(page_tokens: int, tmp_path: Path) -> None:
    directory = make_family("qwen2_mixed", tmp_path)
    prompts = prompts_of(LENGTHS)
    engine = engine_for(directory, block_size=page_tokens)
    assert_transformers_agrees(directory, prompts, run(engine, load_of(prompts), check=False))
    engine.close()


@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_log_probabilities_of_prompts_equal_transformers(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    prompts = prompts_of((1, 2, 64, 65, 200))
    engine = engine_for(directory)
    asked = [submit(f"r{at}", prompt, max_tokens=1, prompt_logprobs=20) for at, prompt in enumerate(prompts)]
    results = run(engine, asked, check=False)
    engine.close()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    for at, prompt in enumerate(prompts):
        reports = results.prompts[f"r{at}"]
        assert len(reports) == len(prompt) - 1
        if not reports:
            continue
        with torch.inference_mode():
            theirs = model(torch.tensor([prompt])).logits[0, :-1].log_softmax(-1)
        own = theirs.gather(-1, torch.tensor(prompt[1:])[:, None])
        ours = torch.tensor([[report.sampled, *report.top] for report in reports])
        places = torch.tensor([report.top_ids for report in reports])
        assert (ours - torch.cat((own, theirs.gather(-1, places)), -1)).abs().max() <= 1e-3
        assert [report.rank for report in reports] == ((theirs > own).sum(-1) + 1).tolist()
