"""The engine's configuration: defaults hold, bounds hold, and errors name the flag."""

import pytest
from pydantic import ValidationError

from infergc.config import PAGE_SIZES, ConfigError, EngineConfig, engine_config, flag
from infergc.units import GIB, MIB


def test_a_model_is_enough():
    config = engine_config(model="some/dir")
    assert (str(config.model), config.kv_bytes, config.block_size) == ("some/dir", GIB // 2, 16)


def test_every_field_is_described():
    for name, field in EngineConfig.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(("given", "size"), [("512MiB", 512 * MIB), ("1000", 1000), (4096, 4096)])
def test_sizes(given, size):
    assert engine_config(model="m", kv_cache_memory=given).kv_cache_memory == size


@pytest.mark.parametrize("size", PAGE_SIZES)
def test_page_sizes(size):
    assert engine_config(model="m", block_size=size).block_size == size


def test_one_memory_budget_is_set():
    whole, again = engine_config(model="m", memory="1GiB"), engine_config(model="m", kv_cache_memory="1GiB")
    assert (whole.memory, whole.kv_cache_memory) == (GIB, None)
    assert (again.memory, again.kv_cache_memory) == (None, GIB)
    for config in (engine_config(model="m"), whole, again):
        assert EngineConfig.model_validate_json(config.model_dump_json()) == config


def test_two_memory_budgets_are_one_too_many():
    with pytest.raises(ConfigError, match=r"^--memory: give either --memory, .* or --kv-cache-memory, .*; not both$"):
        engine_config(model="m", memory="1GiB", kv_cache_memory="1GiB")


BAD = [
    ("max_model_len", 0), ("memory", 0), ("memory", "5x"), ("kv_cache_memory", 0), ("kv_cache_memory", "5x"),
    ("kv_cache_memory", -1),
    ("block_size", 12), ("block_size", 0), ("max_num_seqs", 0), ("max_num_seqs", 4097),
    ("max_num_batched_tokens", 0), ("max_num_batched_tokens", (1 << 20) + 1), ("scheduling_policy", "random"),
        *((f"gc_{age}_steps", steps) for age in ("young", "survivor", "tenured") for steps in (0, (1 << 24) + 1)),
    ("gc_minor_pages", 0), ("gc_minor_pages", (1 << 30) + 1), ("gc_major_pages", 0), ("gc_major_pages", (1 << 30) + 1),
    ("retention_policy", "mru"), ("pipeline_depth", 0), ("pipeline_depth", 3), ("attention_backend", "gpu"),
    ("threads", -1), ("threads", 1025), ("threads", "many"), ("seed", -1), ("seed", 2**63), ("dtype", "int8"),
    ("model", 3), ("enable_prefix_caching", "maybe"), ("deterministic", None), ("executor", 3),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD)
def test_what_is_not_allowed(field, value):
    with pytest.raises(ConfigError, match=f"^{flag(field)}: .") as caught:
        engine_config(**{"model": "m", field: value})
    assert str(caught.value).count("--") == 1  # nothing else is blamed


def test_messages_say_what_is_allowed_and_what_was_given():
    cases = {
        "block_size": (7, r"--block-size: 7 is not one of 8, 16, 32, 64$"),
        "gpu_memory_utilization": (0.0, "^--gpu-memory-utilization: 0.0 is not allowed; it must be > 0 and ≤ 1$"),
        "pipeline_depth": (3, "^--pipeline-depth: 3 is not allowed; it must be ≥ 1 and ≤ 2$"),
        "dtype": ("int8", '^--dtype: "int8" is not one of "auto", "bfloat16", "float16" or "float32"$'),
        "kv_cache_memory": ("5x", '^--kv-cache-memory: "5x" is not a size in bytes; write for example .*1073741824$'),
    }
    cases["threads"] = ("many", '^--threads: takes an integer, not "many"$')
    cases["deterministic"] = (None, "^--deterministic: takes true or false, not null$")
    for field, (value, message) in cases.items():
        with pytest.raises(ConfigError, match=message):
            engine_config(**{"model": "m", field: value})


def test_all_problems_at_once():
    with pytest.raises(ConfigError, match=r"--threads: .*; --seed: "):
        engine_config(model="m", threads=-1, seed=-1)


def test_unknown_and_missing_settings():
    with pytest.raises(ConfigError, match=r"^--model: is required; modle: no such setting; did you mean model\?$"):
        engine_config(modle="m")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("kv_cache_mem", "kv_cache_memory"),
        ("kv_cache_memory_bytes", "kv_cache_memory"),
        ("mem_fraction_static", "gpu_memory_utilization"),
    ],
)
def test_a_setting_of_another_name_is_pointed_to_ours(name, ours):
    with pytest.raises(ConfigError, match=rf"^{name}: no such setting; did you mean {ours}\?$"):
        engine_config(model="m", **{name: 1})


def test_frozen():
    config = engine_config(model="m")
    with pytest.raises(ValidationError):
        config.seed = 1


def test_ages_and_counts_of_births_have_bounds_that_are_told():
    with pytest.raises(ConfigError) as caught:
        engine_config(model="m", gc_young_steps=1 << 25, gc_major_pages=0)
    assert str(caught.value) == (
        f"--gc-major-pages: 0 is not allowed; it must be ≥ 1 and ≤ {1 << 30}; "
        f"--gc-young-steps: {1 << 25} is not allowed; it must be ≥ 1 and ≤ {1 << 24}"
    )
