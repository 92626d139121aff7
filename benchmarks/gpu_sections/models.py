"""Model directories of random weights at the geometry of known models, written once for all sections of a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from infergc.bench.gpu.section import Setting
from infergc.models.hf_config import model_spec, read_config
from infergc.models.spec import ModelSpec
from infergc.models.weights import allocate, destinations

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
    "bos_token_id": 128000, "eos_token_id": 128001, "torch_dtype": "bfloat16", "rope_theta": 500000.0,
    "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
_ROPE = {
    "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
}  # fmt: skip
GEOMETRIES: dict[str, dict[str, Any]] = {
    "1b": {  # Llama-3.2-1B
        **_LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
        "tie_word_embeddings": True, "rope_scaling": {**_ROPE, "factor": 32.0},
    },
    "8b": {  # Llama-3.1-8B
        **_LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "head_dim": 128,
        "tie_word_embeddings": False, "rope_scaling": {**_ROPE, "factor": 8.0},
    },
    "tiny": {  # to try the program with
        **_LLAMA, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512, "max_position_embeddings": 4096,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32", "tie_word_embeddings": True,
    },
}  # fmt: skip
_SPREAD = 0.02  # of matrices' entries
_SHARD = 2 << 30  # bytes
_SPARE = 1.1  # room that is wanted, over what is written


class NoRoomError(RuntimeError):
    """The folder for models is too small."""


def model_directory(name: str, setting: Setting) -> Path:
    """The directory of a model, written if no section has written it yet; tiny whatever is asked for if quick.

    Raises:
        NoRoomError: it does not fit where models are written.
        ModuleNotFoundError: safetensors is not installed.
    """
    name = "tiny" if setting.quick else name
    directory = setting.scratch / name
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)  # of a section that was stopped while it wrote
        directory.mkdir(parents=True)
        (directory / "config.json").write_text(json.dumps(GEOMETRIES[name], indent=1), encoding="utf-8")
        _write_weights(directory, geometry(directory), setting.device)
        (directory / "complete").touch()
    return directory


def geometry(directory: Path) -> ModelSpec:
    """What the engine makes of a directory's config.json."""
    config = read_config(directory)
    return model_spec(config, getattr(torch, config.torch_dtype))


def kv_bytes_per_token(spec: ModelSpec) -> int:
    """K and V of all layers."""
    return 2 * spec.num_layers * spec.kv_width * spec.dtype.itemsize


def _write_weights(directory: Path, spec: ModelSpec, device: str) -> None:
    """Shards and their index, as transformers writes them; each shard is drawn on the device and written whole."""
    from safetensors.torch import save_file

    with torch.device("meta"):
        shapes = {name: view.shape for name, view in destinations(spec, allocate(spec)).items()}
    size = sum(shape.numel() for shape in shapes.values()) * spec.dtype.itemsize
    if shutil.disk_usage(directory).free < _SPARE * size:
        raise NoRoomError(f"{directory.parent} has no room for {size / 2**30:.1f} GiB of weights")
    draw = torch.Generator(device).manual_seed(0)
    index: dict[str, str] = {}
    for number, names in enumerate(_shards(shapes, spec.dtype.itemsize)):
        file = f"model-{number + 1:05}.safetensors"
        tensors = {name: _drawn(shapes[name], spec.dtype, draw) for name in names}
        save_file(tensors, directory / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    told = {"metadata": {"total_size": size}, "weight_map": index}
    (directory / "model.safetensors.index.json").write_text(json.dumps(told), encoding="utf-8")


def _shards(shapes: dict[str, torch.Size], itemsize: int) -> list[list[str]]:
    """Names of neighbouring tensors, at least one, of at most a shard's bytes."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        size += shape.numel() * itemsize
        if shards[-1] and size > _SHARD:
            shards.append([])
            size = shape.numel() * itemsize
        shards[-1].append(name)
    return shards


def _drawn(shape: torch.Size, dtype: torch.dtype, draw: torch.Generator) -> torch.Tensor:
    """On the host; norms are ones."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=dtype)
    drawn = torch.randn(shape, dtype=dtype, device=draw.device, generator=draw)
    return drawn.mul_(_SPREAD).cpu()
