"""Loading checkpoints: single and sharded, tied and not, converted, and every way a directory can be wrong."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cpu.families import make_family
from infergc.hf.errors import ModelError, UnsupportedModelError
from infergc.models.weights import DecoderWeights, destinations
from infergc.worker.loading.checkpoint import digest, read_shards
from infergc.worker.loading.dtypes import choose_dtype
from infergc.worker.loading.loader import ModelSource, load_weights, open_model

NAME = "model.safetensors"


@dataclass
class LoadedModel:
    source: ModelSource
    weights: DecoderWeights


def load_model(directory: Path, dtype: str = "auto", *, progress: bool = False) -> LoadedModel:
    source = open_model(directory, dtype)
    return LoadedModel(source, load_weights(source, progress=progress))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("qwen2", tmp_path_factory.mktemp("qwen2"))


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def tensors_of(model: LoadedModel) -> dict[str, torch.Tensor]:
    return destinations(model.source.spec, model.weights)


def rewrite(directory: Path, change: dict[str, torch.Tensor | None]) -> None:
    """Replace, add or (None) remove tensors."""
    tensors = {**load_file(directory / NAME), **change}
    save_file({name: x for name, x in tensors.items() if x is not None}, directory / NAME)


def test_every_stored_tensor_arrives(directory: Path) -> None:
    loaded, stored = tensors_of(load_model(directory, "float32")), load_file(directory / NAME)
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_shards_load_as_one(pristine: Path, tmp_path: Path) -> None:
    make_family("qwen2", tmp_path, shard_size="60KB")
    assert len(read_shards(tmp_path)) > 2
    single, sharded = load_model(pristine, "float32"), load_model(tmp_path, "float32")
    found, expected = tensors_of(sharded), tensors_of(single)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_converted(directory: Path, dtype: torch.dtype) -> None:
    loaded, stored = tensors_of(load_model(directory, str(dtype)[6:])), load_file(directory / NAME)
    assert all(torch.equal(loaded[name], stored[name].to(dtype)) for name in stored)


def test_tensors_larger_than_a_piece_arrive_whole(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infergc.worker.loading.loader._PIECE", 1000)  # no row is that long, no tensor that short
    loaded, stored = tensors_of(load_model(directory, "float32")), load_file(directory / NAME)
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_a_tied_output_matrix_may_be_stored_or_not(tmp_path: Path) -> None:
    make_family("llama_tied", tmp_path)
    expected = load_model(tmp_path, "float32").weights.embedding.weight
    rewrite(tmp_path, {"lm_head.weight": torch.zeros(131, 64)})
    found = load_model(tmp_path, "float32").weights
    assert torch.equal(found.head.weight, expected)


def test_stale_rotary_buffers_are_passed_over(directory: Path) -> None:
    rewrite(directory, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)})
    load_model(directory)


@pytest.mark.parametrize(
    ("config", "generation", "expected"), [(5, [7, 8], (7, 8)), ([5, 6], None, (5, 6)), (5, 9, (9,)), (None, None, ())]
)
def test_end_tokens(directory: Path, config: object, generation: object, expected: tuple[int, ...]) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": config}))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    assert open_model(directory).eos_ids == expected


def test_end_tokens_without_a_generation_config(directory: Path) -> None:
    (directory / "generation_config.json").unlink()
    assert open_model(directory).eos_ids == ()


def test_progress_is_drawn_on_standard_error_when_asked(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(directory)
    assert capfd.readouterr() == ("", "")
    load_model(directory, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Loading weights" in err


def change_config(directory: Path, **fields: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_digest_names_the_weights(directory: Path) -> None:
    before = open_model(directory).digest
    assert open_model(directory).digest == before
    seen = {before}
    for name in ("model.norm.weight", "model.layers.1.mlp.down_proj.weight", "model.layers.2.self_attn.k_proj.bias"):
        changed = load_file(directory / NAME)[name].clone()
        changed.view(-1)[0] += 1
        rewrite(directory, {name: changed})
        seen.add(open_model(directory).digest)
    assert len(seen) == 4


@pytest.mark.parametrize(
    "fields", [{"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}, {"rms_norm_eps": 0.1}]
)
def test_digest_names_the_settings_that_shape_kv(directory: Path, fields: dict[str, object]) -> None:
    before = open_model(directory).digest
    change_config(directory, **fields)
    assert open_model(directory).digest != before


def test_digest_names_the_dtype(directory: Path) -> None:
    assert open_model(directory, "float32").digest != open_model(directory, "bfloat16").digest


def test_digest_samples_large_tensors_at_both_ends_and_the_middle(tmp_path: Path) -> None:
    base = torch.zeros(10_000)
    seen = set()
    for place in (None, 0, 5_000, 9_999):
        x = base.clone()
        if place is not None:
            x[place] = 1
        save_file({"x": x}, tmp_path / NAME)
        seen.add(digest(read_shards(tmp_path), ""))
    assert len(seen) == 4


def refused(directory: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(directory)


def test_not_a_directory(tmp_path: Path) -> None:
    refused(tmp_path / "absent", r"absent is not a directory")


def test_an_empty_directory(tmp_path: Path) -> None:
    refused(tmp_path, r" holds no config\.json")


def test_no_weights(directory: Path) -> None:
    (directory / NAME).unlink()
    refused(directory, r" holds neither model\.safetensors nor model\.safetensors\.index\.json")


def test_pickles_are_not_loaded(directory: Path) -> None:
    (directory / NAME).rename(directory / "pytorch_model.bin")
    refused(directory, r"only as pickles \(pytorch_model\.bin\).*not loaded")


@pytest.mark.parametrize("keep", [4, 300, -1])
def test_a_truncated_file(directory: Path, keep: int) -> None:
    (directory / NAME).write_bytes((directory / NAME).read_bytes()[:keep])
    refused(directory, r"model\.safetensors is truncated")


def test_a_file_that_is_something_else(directory: Path) -> None:
    (directory / NAME).write_bytes((2).to_bytes(8, "little") + b"no" + bytes(100))
    refused(directory, r"model\.safetensors is not a safetensors file")


def test_a_missing_shard(tmp_path: Path) -> None:
    make_family("llama2", tmp_path, shard_size="60KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    refused(tmp_path, rf"{shard.name} is missing; model\.safetensors\.index\.json names it")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_broken_index(directory: Path, text: str) -> None:
    (directory / "model.safetensors.index.json").write_text(text)
    refused(directory, r"model\.safetensors\.index\.json")


def test_missing_and_unexpected_tensors_are_named(directory: Path) -> None:
    rewrite(directory, {"model.norm.weight": None, "model.extra.weight": torch.zeros(2)})
    refused(directory, r"Qwen2ForCausalLM: 1 missing \(model\.norm\.weight\); 1 unexpected \(model\.extra\.weight\)")


@pytest.mark.parametrize("x", [torch.zeros(63), torch.zeros(64, dtype=torch.int8)])
def test_a_tensor_of_another_shape_or_kind_is_named(directory: Path, x: torch.Tensor) -> None:
    rewrite(directory, {"model.norm.weight": x})
    refused(directory, r"model\.norm\.weight is .*config\.json asks for \(64,\) in floating point")


def test_an_unsupported_architecture_is_refused_before_weights_are_looked_for(directory: Path) -> None:
    (directory / NAME).unlink()
    change_config(directory, architectures=["GPT2LMHeadModel"])
    with pytest.raises(UnsupportedModelError, match=r"GPT2LMHeadModel.*LlamaForCausalLM"):
        load_model(directory)


@pytest.mark.parametrize(
    ("stored", "chosen"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float32),
    ],
)
def test_dtype_auto_is_the_checkpoints_where_that_is_fast(
    stored: torch.dtype, chosen: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "infergc"):
        assert choose_dtype("auto", stored) == chosen
    assert bool(caplog.messages) == (chosen != stored), "a change of dtype is told"


def test_a_dtype_asked_for_is_taken() -> None:
    assert choose_dtype("float16", torch.float32) == torch.float16
