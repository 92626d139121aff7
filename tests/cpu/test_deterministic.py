"""--deterministic: same seed, same tokens, whatever else is in the batch, the cache or the pool."""

from pathlib import Path
from typing import Any

import pytest

from cpu.families import make_family
from cpu.test_engine_families import engine_for, prompts_of, streams
from infergc.engine.loop import Engine
from infergc.engine.messages import Logprobs
from samples.engines import run, submit

LENGTHS = (1, 17, 40, 65, 130)


def sampled_load(prompts: list[list[int]], prefix: str = "r") -> list[Any]:
    """Requests whose tokens hang on every bit of the logits: hot sampling with penalties."""
    return [
        submit(
            f"{prefix}{index}", prompt, max_tokens=40, ignore_eos=True, temperature=1.5, top_p=0.95,
            repetition_penalty=1.1, seed=index,
        )
        for index, prompt in enumerate(prompts)
    ]  # fmt: skip


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_the_same_seed_gives_the_same_tokens(family: str, backend: str, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    prompts = prompts_of(LENGTHS)
    settings: dict[str, Any] = {"deterministic": True, "attention_backend": backend}

    roomy = engine_for(directory, **settings)
    found = streams(run(roomy, sampled_load(prompts), check=False), "r", len(prompts))
    hit = run(roomy, sampled_load(prompts, "hit"), check=False)
    assert streams(hit, "hit", len(prompts)) == found, "on a prefix hit"
    assert all(cached > 0 for name, cached in hit.cached.items() if name != "hit0")
    page_bytes = sum(group.page_bytes for group in roomy.heap.config.groups)
    roomy.close()

    alone = engine_for(directory, enable_prefix_caching=False, pipeline_depth=1, max_num_batched_tokens=23, **settings)
    for index, command in enumerate(sampled_load(prompts)):
        assert run(alone, [command], check=False).tokens[f"r{index}"] == found[index], "alone, in other chunks"
    alone.close()

    small = engine_for(directory, kv_cache_memory=14 * page_bytes, max_num_batched_tokens=32, **settings)
    assert streams(run(small, sampled_load(prompts), check=False), "r", len(prompts)) == found, "after preemption"
    assert small.scheduler.counters.preemptions > 0
    small.close()


@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_prompts_have_the_same_log_probabilities(family: str, tmp_path: Path) -> None:
    """To the bit: cold, with all of them cached, alone in other chunks without a cache, and after preemption."""
    directory = make_family(family, tmp_path)
    prompts = prompts_of(LENGTHS)

    def load(prefix: str) -> list[Any]:
        asked: dict[str, Any] = {"max_tokens": 40, "ignore_eos": True, "prompt_logprobs": 2, "logprobs": 2}
        return [submit(f"{prefix}{at}", prompt, temperature=0.0, **asked) for at, prompt in enumerate(prompts)]

    def told(engine: Engine, prefix: str = "r") -> list[list[Logprobs]]:
        results = run(engine, load(prefix), check=False)
        assert not results.errors
        names = [f"{prefix}{at}" for at in range(len(prompts))]
        return [results.prompts[name] + results.logprobs[name] for name in names]

    roomy = engine_for(directory, deterministic=True)
    found = told(roomy)
    assert [len(reports) for reports in found] == [length - 1 + 40 for length in LENGTHS]
    assert told(roomy, "again") == found
    page_bytes = sum(group.page_bytes for group in roomy.heap.config.groups)
    roomy.close()

    settings = {"enable_prefix_caching": False, "pipeline_depth": 1, "max_num_batched_tokens": 23}
    alone = engine_for(directory, deterministic=True, **settings)
    for at, command in enumerate(load("r")):
        results = run(alone, [command], check=False)
        assert results.prompts[f"r{at}"] + results.logprobs[f"r{at}"] == found[at]
    alone.close()

    small = engine_for(directory, deterministic=True, kv_cache_memory=14 * page_bytes, max_num_batched_tokens=32)
    assert told(small) == found
    assert small.scheduler.counters.preemptions > 0
    small.close()
