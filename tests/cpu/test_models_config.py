"""Hugging Face configurations, of today and of older checkpoints, read into specs or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from infergc.hf.errors import ModelError, UnsupportedModelError
from infergc.hf.families import ARCHITECTURES
from infergc.models.hf_config import checkpoint_dtype, model_spec, read_config
from infergc.models.rope import inverse_frequencies
from infergc.models.spec import ModelSpec, RopeSpec
from infergc.sim.hf_geometry import read_geometry

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "hidden_act": "silu",
}
QWEN2 = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
MISTRAL = {**LLAMA, "architectures": ["MistralForCausalLM"], "model_type": "mistral"}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
YARN = {"factor": 4.0, "original_max_position_embeddings": 512}


def config_of(directory: Path, fields: dict[str, Any]) -> Any:
    (directory / "config.json").write_text(json.dumps(fields))
    return read_config(directory)


def spec_of(directory: Path, fields: dict[str, Any]) -> ModelSpec:
    return model_spec(config_of(directory, fields), torch.float32)


def theirs(directory: Path) -> Any:
    """The same file as transformers reads it."""
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    config.standardize_rope_params()  # as it does once more where it computes frequencies
    return config


TYPES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2"} | {
    "Qwen3ForCausalLM": "qwen3"
}
WRITTEN: dict[str, dict[str, Any]] = {
    "bare": {},
    "small": {"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 7},
    "no heads given": {"num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 77},
    "tied": {"tie_word_embeddings": True, "intermediate_size": 5, "rms_norm_eps": 1e-5, "num_hidden_layers": 3},
    "biases": {"attention_bias": True, "mlp_bias": True, "eos_token_id": [3, 4]},
    "nulls": {"eos_token_id": None, "sliding_window": None, "rope_scaling": None, "layer_types": None},
    "window": {"sliding_window": 99, "use_sliding_window": True, "max_window_layers": 30},
    "window from the first": {"use_sliding_window": True, "max_window_layers": 0},
    "window of the class": {"use_sliding_window": True},
    "unused window": {"sliding_window": 99, "use_sliding_window": False},
    "window, layer by layer": {
        "use_sliding_window": True, "sliding_window": 9, "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "old rope": {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "old rope, new name": {"rope_theta": 1e6, "rope_parameters": {"rope_type": "yarn", **YARN}},
    "both ropes": {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "yarn", **YARN}},
    "rope by itself": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 7.0, **LLAMA3}},
    "original length outside": {
        "original_max_position_embeddings": 64, "rope_scaling": {"rope_type": "yarn", "factor": 8.0},
    },
    "old type": {"torch_dtype": "float16"},
    "both types": {"torch_dtype": "float16", "dtype": "bfloat16"},
}  # fmt: skip


@pytest.mark.parametrize("fields", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_a_file_says_is_what_transformers_takes_it_to_say(
    architecture: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    family = {"architectures": [architecture], "model_type": TYPES[architecture]}
    ours = config_of(tmp_path, {**family, **fields})
    other = theirs(tmp_path)
    assert model_spec(ours, torch.float32) == model_spec(other, torch.float32)
    assert (ours.eos_token_id, checkpoint_dtype(ours)) == (other.eos_token_id, checkpoint_dtype(other))


@pytest.mark.parametrize("fields", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_simulator_reads_what_the_engine_reads(architecture: str, fields: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(tmp_path, {"architectures": [architecture], **fields})
    spec, geometry = model_spec(config, torch.float32), read_geometry(tmp_path)
    assert (geometry.windows or (None,) * geometry.layers) == spec.windows
    assert (geometry.q_width, geometry.kv_width, geometry.head_dim) == (spec.q_width, spec.kv_width, spec.head_dim)
    assert (geometry.hidden, geometry.ffn, geometry.vocab) == (
        spec.hidden_size, spec.intermediate_size, spec.vocab_size
    )  # fmt: skip
    assert (geometry.max_len, geometry.tied, geometry.qk_norm) == (spec.max_len, spec.tied, spec.qk_norm)
    biases = (geometry.qkv_bias, geometry.out_bias, geometry.mlp_bias)
    assert biases == (spec.qkv_bias, spec.out_bias, spec.mlp_bias)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
    ],
)
def test_rope_settings_read_the_same_in_every_generation_of_files(fields: dict[str, Any], tmp_path: Path) -> None:
    expected = RopeSpec("llama3", theta=5e5, factor=8.0, original_len=128, low_freq_factor=1.0, high_freq_factor=4.0)
    assert spec_of(tmp_path, {**LLAMA, **fields}).rope == expected


def test_bare_llama2_config_has_plain_rope_and_all_heads(tmp_path: Path) -> None:
    fields = {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}
    spec = spec_of(tmp_path, fields)
    assert (spec.rope, spec.num_kv_heads, spec.head_dim, spec.windows) == (RopeSpec(), 4, 16, (None,) * 4)


def test_linear_scaling_under_its_old_name(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert spec.rope == RopeSpec("linear", factor=2.0)


def test_yarn_context_is_the_stretched_one(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", **YARN}
    assert spec_of(tmp_path, {**QWEN2, "rope_scaling": scaling}).max_len == 2048


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 3.0},
        {"rope_type": "llama3", **LLAMA3},
        {"rope_type": "yarn", **YARN},
        {"rope_type": "yarn", **YARN, "truncate": False, "beta_fast": 16.0, "beta_slow": 2.0},
        {"rope_type": "yarn", **YARN, "mscale": 0.7, "mscale_all_dim": 1.3},
        {"rope_type": "yarn", **YARN, "attention_factor": 1.25},
    ],
)
def test_frequencies_are_those_of_transformers(scaling: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(tmp_path, {**LLAMA, "rope_parameters": {"rope_theta": 1e4, **scaling}})
    spec = model_spec(config, torch.float32)
    expected_R, amplitude = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](theirs(tmp_path))
    torch.testing.assert_close(inverse_frequencies(spec.rope, spec.head_dim), expected_R, rtol=1e-6, atol=0)
    assert spec.rope.amplitude == pytest.approx(amplitude)


def test_qwen2_windows_its_upper_layers(tmp_path: Path) -> None:
    fields = {**QWEN2, "use_sliding_window": True, "sliding_window": 256, "max_window_layers": 3}
    assert spec_of(tmp_path, fields).windows == (None, None, None, 256)


def test_qwen2_window_is_off_unless_used(tmp_path: Path) -> None:
    assert spec_of(tmp_path, {**QWEN2, "sliding_window": 256}).windows == (None,) * 4


@pytest.mark.parametrize(("window", "read"), [(256, 256), (None, None), (1024, None), (1023, 1023)])
def test_mistral_window_counts_only_below_the_context(window: int | None, read: int | None, tmp_path: Path) -> None:
    assert spec_of(tmp_path, {**MISTRAL, "sliding_window": window}).windows == (read,) * 4


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_checkpoint_dtype_under_both_names(field: str, tmp_path: Path) -> None:
    assert checkpoint_dtype(config_of(tmp_path, {**LLAMA, field: "bfloat16"})) == torch.bfloat16


@pytest.mark.parametrize("names", [["GPT2LMHeadModel"], [], None, ["LlamaForCausalLM", "OtherModel"]])
def test_other_architectures_are_refused_with_the_list_of_what_works(names: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        config_of(tmp_path, {**LLAMA, "architectures": names})
    assert all(name in str(refusal.value) for name in [*ARCHITECTURES, *(names or ["none"])])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'.*default, linear, llama3, yarn"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor.*whole head"),
    ],
)
def test_other_ingredients_are_refused_by_name(fields: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=named):
        spec_of(tmp_path, {**LLAMA, **fields})


def test_other_layer_types_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="layer_types holds chunked_attention"):
        spec_of(tmp_path, {**QWEN2, "layer_types": ["full_attention"] * 3 + ["chunked_attention"]})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide num_attention_heads 4"),
        ({"head_dim": 15}, "head_dim"),
        ({"hidden_size": "wide"}, 'hidden_size is "wide", which is not an integer from 1 up'),
        ({"num_hidden_layers": True}, "num_hidden_layers is true"),
        ({"vocab_size": None}, "vocab_size is null"),
        ({"tie_word_embeddings": "no"}, 'tie_word_embeddings is "no", which is not true or false'),
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"hidden_act": 3}, "hidden_act"),
        ({"eos_token_id": ["a"]}, "eos_token_id"),
        ({"layer_types": ["full_attention"]}, "layer_types.* 4 entries"),
        ({"rope_scaling": [1]}, "rope_parameters is "),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "rope_parameters differ between layers"),
        ({"per_layer_config": [{}]}, "per_layer_config"),
    ],
)
def test_widths_that_do_not_fit_are_named(fields: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=named):
        spec_of(tmp_path, {**LLAMA, **fields})


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_broken_config_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json is not a readable JSON object"):
        read_config(tmp_path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r" holds no config\.json"):
        read_config(tmp_path)
