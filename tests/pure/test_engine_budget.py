"""From the memory given to pages: what is left for KV, and what is said when it is too little."""

import pytest

from infergc.config import ConfigError, EngineConfig, engine_config
from infergc.engine.budget import capacities, longest_text
from infergc.engine.ports import ModelFacts
from infergc.heap.groups import GroupSpec
from infergc.units import KIB, MIB

TAKEN = {"runtime": 300 * MIB, "weights": 100 * MIB, "activations": 20 * MIB}
FULL = GroupSpec("full", page_bytes=64 * KIB)
WINDOW = GroupSpec("window", page_bytes=64 * KIB, window=64)


def facts(*groups: GroupSpec, memory: dict[str, int] = TAKEN) -> ModelFacts:
    return ModelFacts("digest", 50, (), 2048, groups or (FULL,), "float32", memory)


def config(**settings: object) -> EngineConfig:
    return engine_config(model="m", **settings)


def test_kv_gets_what_the_rest_leaves():
    (group,) = capacities(config(memory="440MiB"), facts())
    assert group.capacity * group.page_bytes == 20 * MIB


def test_kv_memory_is_for_kv_alone():
    (group,) = capacities(config(kv_cache_memory="20MiB"), facts())
    assert group.capacity * group.page_bytes == 20 * MIB


def test_without_a_worker_all_is_for_kv():
    (group,) = capacities(config(memory="20MiB"), facts(memory={}))
    assert group.capacity * group.page_bytes == 20 * MIB


def refusal(given: EngineConfig, model: ModelFacts) -> str:
    with pytest.raises(ConfigError) as caught:
        longest_text(given, model, capacities(given, model))
    return str(caught.value)


@pytest.mark.parametrize("memory", ["1MiB", "420MiB"])
def test_too_little_says_where_it_goes_and_what_would_fit(memory: str):
    message = refusal(config(memory=memory), facts())
    assert message.startswith("--memory: ")
    assert "0 B are left for KV beside runtime 300.0 MiB, weights 100.0 MiB, activations 20.0 MiB" in message
    least = "the least that works safely is --memory 429MiB"  # 421MiB would do at this start
    assert message.endswith(f"{least}, and requests of 2048 tokens take --memory 436MiB")


@pytest.mark.parametrize(("memory", "longest"), [("421MiB", 256), ("428MiB", 2048)])
def test_what_is_said_to_fit_fits(memory: str, longest: int):
    given = config(memory=memory)
    assert longest_text(given, facts(), capacities(given, facts())) == longest


def test_a_window_needs_its_pages_whatever_the_text():
    given = {"max_num_batched_tokens": 64}
    assert "--memory 430MiB, and" in refusal(config(memory="421MiB", **given), facts(WINDOW, FULL))
    assert "--kv-cache-memory 2MiB, and" in refusal(config(kv_cache_memory="1MiB", **given), facts(WINDOW, FULL))
    assert capacities(config(memory="422MiB", **given), facts(WINDOW, FULL))[0].capacity == 16


def test_a_text_too_long_for_the_memory_names_both_flags():
    message = refusal(config(memory="424MiB", max_model_len=2000), facts())
    assert message.startswith("--max-model-len: 2000 tokens take 7.8 MiB of KV cache; --memory is 424.0 MiB")
    assert message.endswith("which holds 1024 tokens; --memory 436MiB would do")
