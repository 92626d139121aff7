"""The engine on a GPU: it says what the engine on the CPU says, under everything that a heap does to its pages.

Texts of two devices part where two tokens are all but equally likely. So what is compared is how likely each finds the
tokens of one text that it is made to write, or greedy texts of small random models in float32.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpu.families import make_family
from cpu.served import demo_model
from cpu.test_engine_compaction import ABORTED, ALWAYS, served
from cpu.test_engine_families import LENGTHS, assert_transformers_agrees, engine_for, load_of, prompts_of, streams
from cpu.test_engine_tiers import swaps_and_says_the_same
from cpu.test_evaluation_forced import forced, full_forward, subject_for, texts_of
from infergc import LLM, SamplingParams
from infergc.config import ConfigError
from infergc.engine.messages import Abort, Ask
from samples.engines import Results, run, submit
from samples.gpu_here import needs_gpu
from samples.gpu_scripted import GPU, NATS, choices, scripted

pytestmark = needs_gpu
FAMILIES = ("llama3", "qwen2_mixed", "qwen3", "mistral_window")
ROOT = Path(__file__).parents[2]
DEMO = demo_model(ROOT)
needs_demo = pytest.mark.skipif(DEMO is None, reason="models/demo is not complete")
WROTE = (
    "Streams of tokens are kept in pages. " * 12,
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    "def f(x):\n    return x + 1",
)


def rests(engine: Any) -> None:
    """Nothing is held, and the laws hold."""
    assert engine.step([Ask(1, "verify")]).answers[0].value == ""
    assert all(group.live == group.in_transit == 0 for group in engine.heap.stats())


# ---- the bundled model


@needs_demo
@pytest.mark.parametrize("prefill", [1, 40])
def test_the_bundled_model_finds_every_token_as_likely_as_on_the_cpu(prefill: int) -> None:
    """Token by token out of pages, and behind prompts, which others decode beside."""
    texts = texts_of((60, 100, 300, 41), vocab=4096)
    found = {}
    for device in ("cpu", "cuda"):
        with subject_for(DEMO, device=device) as subject:
            found[device], answers = forced(subject, texts, prefill)
            assert subject.ready.backend != "reference"
        assert [answer.tokens for answer in answers] == [text[prefill:] for text in texts]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert np.abs(ours - theirs).max() <= NATS


@needs_demo
def test_in_bfloat16_the_bundled_model_differs_by_its_rounding() -> None:
    """Both round, and differently: on average by less than a hundredth of a nat."""
    texts, found = texts_of((100, 200), vocab=4096), {}
    for device in ("cpu", "cuda"):
        with subject_for(DEMO, device=device, dtype="bfloat16") as subject:
            found[device], _ = forced(subject, texts, 1)
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        divergence = (np.exp(theirs) * (theirs - ours)).sum(-1)
        assert divergence.mean() <= 1e-2


@needs_demo
def test_the_offline_api_tells_the_same_of_prompts() -> None:
    asked, found = SamplingParams(max_tokens=4, temperature=0, prompt_logprobs=3, ignore_eos=True), {}
    for device in ("cpu", "cuda"):
        with LLM(DEMO, device=device, dtype="float32", kv_cache_memory="16MiB", threads=1) as llm:
            found[device] = llm.generate(list(WROTE), asked, use_tqdm=False)
            assert llm.ready.memory["kv"] <= 16 << 20
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert len(ours.prompt_logprobs) == len(theirs.prompt_logprobs) == len(ours.prompt_token_ids)
        for token, here, there in zip(ours.prompt_token_ids, ours.prompt_logprobs, theirs.prompt_logprobs, strict=True):
            if there is not None:
                assert here[token].logprob == pytest.approx(there[token].logprob, abs=NATS)


# ---- what a heap does to pages


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_in_chunks_beside_texts_that_go_on_are_transformers_cold_and_on_a_hit(
    family: str, tmp_path: Path
) -> None:
    directory, prompts = make_family(family, tmp_path), prompts_of(LENGTHS)
    engine = engine_for(directory, **GPU)
    for _ in range(2):
        assert_transformers_agrees(directory, prompts, run(engine, load_of(prompts)))
    rests(engine)
    engine.close()


@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
@pytest.mark.parametrize("depth", [1, 2])
def test_who_is_computed_again_goes_on(family: str, depth: int, tmp_path: Path) -> None:
    directory, prompts = make_family(family, tmp_path), [prompt[::-1] for prompt in prompts_of((30,) * 8)]
    probe = engine_for(directory)
    pages = 20 * sum(group.page_bytes for group in probe.heap.config.groups)
    probe.close()
    engine = engine_for(directory, kv_cache_memory=pages, max_num_batched_tokens=32, pipeline_depth=depth, **GPU)
    assert_transformers_agrees(directory, prompts, run(engine, load_of(prompts, tokens=60)))
    assert engine.scheduler.counters.preemptions > 0
    rests(engine)
    engine.close()


@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
@pytest.mark.parametrize("depth", [1, 2])
def test_who_is_swapped_to_pinned_memory_goes_on(family: str, depth: int, tmp_path: Path) -> None:
    settings = {**GPU, "deterministic": False, "pipeline_depth": depth}
    swaps_and_says_the_same(make_family(family, tmp_path), settings, settings)


def test_steps_that_sample_nothing_end_before_their_pages_are_used_again(tmp_path: Path) -> None:
    """Nothing is fetched of a prompt's first chunks, whose pages are sealed, and may be stored, when they end."""
    directory, prompts = make_family("llama3", tmp_path), [each[::-1] for each in prompts_of((400, 390, 380, 370, 360))]
    engine = engine_for(
        directory, kv_cache_memory="400KiB", host_cache_memory="8MiB", tiering_policy="always", max_num_seqs=2, **GPU
    )
    for _ in range(3):
        assert_transformers_agrees(directory, prompts, run(engine, load_of(prompts, tokens=4)))
    assert engine.heap.tiers is not None
    assert engine.heap.tiers.counters.promoted > 0
    rests(engine)
    engine.close()


@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_what_is_moved_together_and_dropped_changes_no_greedy_text(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    still, _ = served(directory, None, **GPU)
    moving, engine = served(directory, ALWAYS, **GPU)
    assert engine.heap.counters.moved >= 20
    greedy = [f"r{index}" for index in range(0, len(still.tokens), 3) if index not in ABORTED]
    assert len(greedy) > 10
    assert all(moving.tokens[name] == still.tokens[name] for name in greedy)


def test_who_hangs_up_leaves_nothing_behind_and_others_go_on(tmp_path: Path) -> None:
    directory, prompts = make_family("llama3", tmp_path), prompts_of((60, 75, 33, 120))
    engine = engine_for(directory, **GPU)
    expected = streams(run(engine, load_of(prompts)), "r", len(prompts))
    for iteration in (1, 3, 8, 15):
        results, beside = Results(), submit("gone", prompts[3][::-1], max_tokens=80, ignore_eos=True)
        results.take(engine.step([*load_of(prompts), beside]).news())
        for at in range(10_000):
            if not engine.has_work():
                break
            results.take(engine.step([Abort("gone")] if at == iteration else []).news())
            engine.heap.check()
        assert streams(results, "r", len(prompts)) == expected
        rests(engine)
    engine.close()


@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_choices_write_to_copies_of_the_page_that_they_share(family: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    prompt, *texts = texts_of((21, 40, 40, 40, 40))
    with scripted(directory, **GPU) as (engine, script):
        rows, results = choices(engine, script, prompt, texts)
        assert engine.heap.counters.copies >= len(texts) - 1
        rests(engine)
    assert [results.tokens[f"c#{index}"] for index in range(len(texts))] == texts
    for text, found in zip(texts, rows, strict=True):
        assert np.abs(found - full_forward(directory, prompt + text, len(prompt))).max() <= NATS


@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_the_collector_changes_no_greedy_text(family: str, tmp_path: Path) -> None:
    directory, prompts = make_family(family, tmp_path), prompts_of(LENGTHS)
    busy = {"gc_minor_pages": 1, "gc_major_pages": 1, "gc_young_steps": 1, "gc_target_free": 0.5, "gc_step_us": 1000}
    texts = []
    for settings in ({"gc": "off"}, busy):
        engine = engine_for(directory, kv_cache_memory="1MiB", **settings, **GPU)
        texts.append([streams(run(engine, load_of(prompts)), "r", len(prompts)) for _ in range(2)])
        rests(engine)
        engine.close()
    assert texts[0] == texts[1]


# ---- memory and settings


def test_a_share_of_the_gpu_is_all_that_is_taken(tmp_path: Path) -> None:
    directory = make_family("llama3", tmp_path)
    free, total = torch.cuda.mem_get_info()
    share = (total - free) / total + 0.02
    engine = engine_for(directory, kv_cache_memory=None, gpu_memory_utilization=share, **GPU)
    held, page = engine.ready.memory, sum(group.page_bytes for group in engine.heap.config.groups)
    assert list(held) == ["runtime", "weights", "activations", "kv"]
    assert share * total - page - 1 <= sum(held.values()) <= share * total
    assert torch.cuda.memory_allocated() >= held["kv"]
    run(engine, load_of(prompts_of(LENGTHS)), check=False)
    assert torch.cuda.max_memory_allocated() <= held["weights"] + held["activations"] + held["kv"]
    engine.close()


def test_too_small_a_share_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--memory: .* left for KV beside runtime .*the least that works"):
        engine_for(make_family("llama3", tmp_path), kv_cache_memory=None, gpu_memory_utilization=1e-6, **GPU)


@pytest.mark.parametrize("name", ["deterministic", "heap_debug"])
def test_what_is_kept_on_the_cpu_alone_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}: is kept on the CPU alone"):
        engine_for(make_family("llama3", tmp_path), **{name: True}, **GPU)
