"""Geometries by name and from files: what they count, and how a wrong one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from infergc.config import ConfigError, engine_config
from infergc.heap.groups import GroupSpec
from infergc.sim.catalog import MODELS, geometry_named
from infergc.sim.devices import DEVICES, device_named
from infergc.sim.executor import create_executor
from infergc.sim.geometry import Geometry
from infergc.sim.hf_geometry import geometry_of
from infergc.sim.requests import VOCAB

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 1024,
}
QWEN2 = {**LLAMA, "architectures": ["Qwen2ForCausalLM"]}
MISTRAL = {**LLAMA, "architectures": ["MistralForCausalLM"]}


@pytest.mark.parametrize(
    ("name", "parameters"),  # as the models' pages count the tensors of their checkpoints
    [
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("llama-3.1-405b", 405_853_388_800),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("mistral-7b-v0.1", 7_241_732_096),
        ("mistral-7b", 7_248_023_552),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-1.5b", 1_543_714_304),
        ("qwen2.5-3b", 3_085_938_688),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen2.5-14b", 14_770_033_664),
        ("qwen2.5-32b", 32_763_876_352),
        ("qwen2.5-72b", 72_706_203_648),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-32b", 32_762_123_264),
    ],
)
def test_parameters_are_those_of_the_checkpoints(name: str, parameters: int) -> None:
    assert geometry_named(name).parameters == parameters


def test_a_token_of_llama_3_takes_128_kib() -> None:
    model = geometry_named("Llama-3-8B")
    assert model.kv_bytes_per_token == 131_072
    facts = model.facts(16)
    assert facts.groups == (GroupSpec("full", 16 * 131_072),)
    assert (facts.vocab_size, facts.eos_ids, facts.max_len, facts.dtype) == (VOCAB, (), 8192, "bfloat16")


def test_every_model_has_heads_that_fit_together() -> None:
    for model in MODELS.values():
        assert model.heads % model.kv_heads == 0
        assert len(model.windows) in {0, model.layers}


def test_a_directory_and_its_file_are_read_alike(tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({**LLAMA, "torch_dtype": "float32", "eos_token_id": [1, 2]}))
    found = geometry_named(directory)
    assert found == geometry_named(str(directory / "config.json"))
    expected = Geometry("mine", 4, 64, 4, 2, 16, 96, 100, 1024, dtype="float32", eos_ids=(1, 2))
    assert found == expected
    facts = create_executor(engine_config(model=directory, block_size=8)).facts
    assert (facts.vocab_size, facts.eos_ids) == (100, (1, 2))
    assert facts.groups == (GroupSpec("full", 4 * 2 * 2 * 16 * 4 * 8),)


@pytest.mark.parametrize(
    ("fields", "windows"),
    [
        (LLAMA, ()),
        ({**LLAMA, "sliding_window": 8}, ()),
        (MISTRAL, ()),
        ({**MISTRAL, "max_position_embeddings": 8192}, (4096,) * 4),
        ({**MISTRAL, "sliding_window": None}, ()),
        ({**MISTRAL, "sliding_window": 1024}, ()),
        ({**QWEN2, "sliding_window": 256}, ()),
        ({**QWEN2, "sliding_window": 256, "use_sliding_window": True, "max_window_layers": 3}, (None,) * 3 + (256,)),
        ({**QWEN2, "sliding_window": 256, "use_sliding_window": True, "max_window_layers": 4}, ()),
        (
            {
                **QWEN2,
                "sliding_window": 256,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
            (256, None) * 2,
        ),
    ],
)
def test_windows_are_read_as_the_engine_reads_them(fields: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    assert geometry_of(fields, "it").windows == windows


def test_layers_are_grouped_by_window_full_attention_first() -> None:
    model = Geometry("it", 3, 64, 4, 2, 16, 96, 100, 1024, windows=(8, None, 8))
    assert model.facts(16).groups == (GroupSpec("full", 2048), GroupSpec("window", 4096, 8))


def test_yarn_stretches_the_context() -> None:
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    assert geometry_of({**LLAMA, "rope_scaling": rope}, "it").max_len == 2048


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": None}, "hidden_size is null, which is not an integer from 1 up"),
        ({"intermediate_size": 1.5}, "intermediate_size is 1.5, which is not an integer from 1 up"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, which is not an integer from 1 up"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: 3 does not divide num_attention_heads, 4"),
        ({"torch_dtype": "int8"}, 'dtype: "int8" is not one of bfloat16, float16, float32'),
        ({"architectures": ["GPT2LMHeadModel"]}, "architectures: GPT2LMHeadModel is not simulated; these are: Llama"),
        ({"architectures": None}, "architectures: none is not simulated"),
        ({"num_local_experts": 8}, "num_local_experts: mixtures of experts are not simulated"),
    ],
)
def test_a_bad_file_is_refused_by_field(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**LLAMA, **changed}))
    with pytest.raises(ConfigError) as error:
        geometry_named(file)
    assert str(error.value).startswith(f"--model: {file}: {message}")


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_file_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="JSON object"):
        geometry_named(tmp_path)
    with pytest.raises(ConfigError, match=r"--model: .* holds no config\.json"):
        create_executor(engine_config(model=tmp_path / "none"))


def test_unknown_names_get_the_nearest_and_all() -> None:
    with pytest.raises(ConfigError) as error:
        geometry_named("llama3-8b")
    assert "--model: llama3-8b is not known; did you mean llama-3-8b" in str(error.value)
    assert all(name in str(error.value) for name in MODELS)
    with pytest.raises(ConfigError) as error:
        device_named("a100")
    assert "--device: a100 is not known; did you mean a100-40g or a100-80g? Give a file" in str(error.value)
    assert all(name in str(error.value) for name in DEVICES)


def test_kv_gets_what_the_weights_leave() -> None:
    model, device = geometry_named("llama-3-8b"), device_named("A100-80G")
    assert device.room_for_kv(model) == 72_000_000_000 - model.weight_bytes
    with pytest.raises(ConfigError, match=r"--device: l4 has 20\.1 GiB .* llama-3-70b take 131\.4 GiB in bfloat16"):
        device_named("l4").room_for_kv(geometry_named("llama-3-70b"))
